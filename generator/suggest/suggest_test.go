package suggest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// lines are what a file of a random machine may have, for files called a to f. A line
// has a section before it.
func lines(r *rand.Rand) []string {
	name := func() string { return string(rune('a' + r.IntN(6))) }
	port := func() int { return 8000 + r.IntN(40) }
	return []string{
		fmt.Sprintf("Container\nPublishPort=%d:80", port()), fmt.Sprintf("Container\nPublishPort=%d:81", port()),
		"Container\nNetwork=own.network", "Container\nNetwork=other.network", "Container\nNetwork=host",
		"Container\nNetwork=" + name() + ".container", "Container\nEnvironment=DB=tcp://systemd-" + name() + ":5432",
		"Container\nEnvironment=DB=" + name(), "Container\nContainerName=" + name(), "Container\nPublishPort=80",
		"Unit\nRequires=" + name() + ".service", "Unit\nAfter=" + name() + ".service", "Unit\nBindsTo=" + name() + ".service",
		"Unit\nPartOf=" + name() + ".container", "Unit\nBefore=" + name() + ".service", "Unit\nWants=" + name() + ".service",
		"Install\nWantedBy=default.target", "Install\nWantedBy=" + name() + ".service", "Install\nRequiredBy=default.target " + name() + ".service",
		"Container\nImage=localhost/caddy", "Container\nImage=localhost/caddy\n[Container]\nNetwork=own.network", "Container\nExposeHostPort=90",
		"Container\nLabel=traefik.enable=true", "Container\nLabel=caddy.reverse_proxy=\"{{upstreams 80}}\"", "Container\nHostName=" + name(),
		"Container\nEnvironment=PORT=80", "Container\nEnvironment=TO=" + name() + ":80", "Container\nPublishPort=443:443",
		"Container\nImage=localhost/prometheus", "Container\nImage=localhost/mosquitto", "Container\nEnvironmentFile=env",
		"Container\nVolume=./env:/etc/Caddyfile", "Container\nImage=localhost/traefik", "Container\nNetwork=container:systemd-" + name(),
		"Service\nType=oneshot", "Service\nRemainAfterExit=yes", "ScaleToZero\nIdleTimeout=1min",
	}
}

// machine writes random files, and drop-ins.
func machine(t *testing.T, r *rand.Rand) (generator.Generator, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, text string) {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 + r.IntN(5) {
		var text, more strings.Builder
		text.WriteString("[Container]\nImage=localhost/app\n")
		all := lines(r)
		for _, k := range r.Perm(len(all))[:r.IntN(5)] {
			to := &text
			if r.IntN(5) == 0 {
				to = &more
			}
			to.WriteString("[" + strings.Replace(all[k], "\n", "]\n", 1) + "\n")
		}
		path := filepath.Join(dir, string(rune('a'+i))+".container")
		write(path, text.String())
		if more.Len() > 0 {
			write(filepath.Join(path+".d", "zz-more.conf"), more.String())
		}
	}
	write(filepath.Join(dir, "env"), "DB_HOST=systemd-b\nWIKI=systemd-c:80\n")
	write(filepath.Join(dir, "own.network"), "[Network]\n")
	write(filepath.Join(dir, "other.network"), "[Network]\n")
	return generator.Generator{Search: quadlet.Search{Manager: quadlet.Manager(r.IntN(2)), UID: 1000, Getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": dir}[name]
	}}}, dir
}

// Whatever the files say: what is suggested makes no error, all that is called asleep
// is, nothing that slept is awake, and there is nothing left to suggest.
func TestRandomMachines(t *testing.T) {
	suggested, slept := 0, 0
	for seed := range uint64(180) {
		g, dir := machine(t, rand.New(rand.NewPCG(20261126, seed)))
		before := g.Plan(t.Context())
		stacks, _ := Stacks(t.Context(), g)
		for _, s := range stacks {
			for _, d := range s.Dropins {
				suggested++
				if err := d.Write(filepath.Join(d.Dir(), d.Name(func(string) bool { return false }))); err != nil {
					t.Fatal(err)
				}
			}
		}
		after := g.Plan(t.Context())
		for _, d := range after.All() {
			if d.Severity == quadlet.Error && !slices.Contains(before.All(), d) {
				t.Errorf("%d: an error that was not there: %v\n%s", seed, d, text(t, dir))
			}
		}
		sleep := sleepers(after)
		for path, is := range sleepers(before) {
			if is && !sleep[path] {
				t.Errorf("%d: %s slept before\n%s", seed, path, text(t, dir))
			}
		}
		again, _ := Stacks(t.Context(), g)
		for i, s := range again {
			if len(s.Dropins) > 0 {
				t.Errorf("%d: left to suggest: %q for %s\n%s", seed, s.Dropins[0].Text, s.Dropins[0].File.Name(), text(t, dir))
			}
			if s.Sleeps() != stacks[i].Sleeps() || s.Sleeps() != s.Slept {
				t.Errorf("%d: sleeps %t, then %t, %t\n%s", seed, stacks[i].Sleeps(), s.Sleeps(), s.Slept, text(t, dir))
			}
			if s.Sleeps() {
				slept++
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d drop-ins, %d stacks that sleep", suggested, slept)
	if suggested < 100 || slept < 50 {
		t.Errorf("only %d drop-ins, and %d stacks that sleep", suggested, slept)
	}
}

// text is all files of a directory.
func text(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			data, _ := os.ReadFile(path)
			fmt.Fprintf(&b, "# %s\n%s", path[len(dir)+1:], data)
		}
		return nil
	})
	return b.String()
}
