package quadlet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tree makes files, directories ("a/") and symlinks ("a -> b") under a new
// directory and gives its path. A file holds the text after its name and '|'.
func tree(t testing.TB, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, text, _ := strings.Cut(e, "|")
		name, target, link := strings.Cut(name, " -> ")
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case link && filepath.IsAbs(target) && target != "/dev/null":
			err = os.Symlink(filepath.Join(root, target), path)
		case link:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// under takes the root off each path, also within diagnostics.
func under(root string, paths []string) string {
	return strings.ReplaceAll(strings.Join(paths, "\n"), root, "")
}

func texts(ds Diagnostics) []string {
	var out []string
	for _, d := range ds {
		out = append(out, d.String())
	}
	return out
}

func lines(s ...string) string { return strings.Join(s, "\n") }

func TestDirs(t *testing.T) {
	root := tree(t,
		"run/containers/systemd/r/",
		"etc/containers/systemd/b/inner/",
		"etc/containers/systemd/a.container.d/sub/",
		"etc/containers/systemd/file.container",
		"etc/containers/systemd/link -> /srv/units",
		"etc/containers/systemd/filelink.container -> file.container",
		"etc/containers/systemd/dangling.container -> missing",
		"etc/containers/systemd/users/team/7/",
		"etc/containers/systemd/users/1000/mine/",
		"etc/containers/systemd/users/1001/theirs/",
		"usr/share/containers/systemd/d/",
		"usr/share/containers/systemd/users/1001/",
		"srv/units/up -> ..",
		"srv/units/more/",
		"home/u/.config/containers/systemd/c/",
		"xdg/containers/systemd/x/",
		"run/user/1000/containers/systemd/",
		"loop/a -> /loop/b",
		"loop/b -> /loop/a",
	)
	env := func(vars ...string) func(string) string {
		return func(name string) string {
			for _, v := range vars {
				if value, ok := strings.CutPrefix(v, name+"="); ok {
					return strings.ReplaceAll(value, "ROOT", root)
				}
			}
			return ""
		}
	}
	users := []string{
		"/etc/containers/systemd/users",
		"/etc/containers/systemd/users/team",
		"/etc/containers/systemd/users/1000",
		"/etc/containers/systemd/users/1000/mine",
		"/usr/share/containers/systemd/users",
		"/usr/share/containers/systemd/users/1001", // so in Quadlet 6.0.0
	}
	// "7" below a directory that is no user's is not filtered.
	users = slices.Insert(users, 2, "/etc/containers/systemd/users/team/7")

	tests := []struct {
		name    string
		manager Manager
		env     func(string) string
		want    []string
	}{
		{"system", System, env("XDG_RUNTIME_DIR=ROOT/xdg"), []string{
			"/run/containers/systemd",
			"/run/containers/systemd/r",
			"/etc/containers/systemd",
			"/etc/containers/systemd/b",
			"/etc/containers/systemd/b/inner",
			"/srv/units",
			"/srv/units/more",
			"/srv",
			"/usr/share/containers/systemd",
			"/usr/share/containers/systemd/d",
			"/usr/share/containers/systemd/users",
			"/usr/share/containers/systemd/users/1001",
		}},
		{
			"user", User, env("XDG_RUNTIME_DIR=ROOT/run/user/1000", "HOME=ROOT/home/u"),
			append([]string{
				"/run/user/1000/containers/systemd",
				"/home/u/.config/containers/systemd",
				"/home/u/.config/containers/systemd/c",
			}, users...),
		},
		{
			"user with XDG_CONFIG_HOME", User, env("XDG_CONFIG_HOME=ROOT/xdg", "HOME=ROOT/home/u"),
			append([]string{"/xdg/containers/systemd", "/xdg/containers/systemd/x"}, users...),
		},
		{
			"user without home", User, env("XDG_RUNTIME_DIR=ROOT/run/user/1000"),
			[]string{
				"/run/user/1000/containers/systemd",
				"HOME: warning: neither XDG_CONFIG_HOME nor HOME is set",
			},
		},
		{
			"relative XDG_CONFIG_HOME", User, env("XDG_CONFIG_HOME=x", "HOME=ROOT/home/u"),
			[]string{`XDG_CONFIG_HOME: warning: not an absolute path: "x"`},
		},
		{
			"QUADLET_UNIT_DIRS", System,
			env("QUADLET_UNIT_DIRS=ROOT/xdg:ROOT/missing:ROOT/etc/containers/systemd/users:ROOT/x.d:ROOT/xdg"),
			[]string{
				"/xdg",
				"/xdg/containers",
				"/xdg/containers/systemd",
				"/xdg/containers/systemd/x",
				"/etc/containers/systemd/users",
				"/etc/containers/systemd/users/1000",
				"/etc/containers/systemd/users/1000/mine",
				"/etc/containers/systemd/users/1001",
				"/etc/containers/systemd/users/1001/theirs",
				"/etc/containers/systemd/users/team",
				"/etc/containers/systemd/users/team/7",
			},
		},
		{
			"relative QUADLET_UNIT_DIRS", System, env("QUADLET_UNIT_DIRS=ROOT/home/u:units:ROOT/xdg"),
			[]string{
				"/home/u",
				"/home/u/.config",
				"/home/u/.config/containers",
				"/home/u/.config/containers/systemd",
				"/home/u/.config/containers/systemd/c",
				`QUADLET_UNIT_DIRS: warning: not an absolute path: "units"; it and what follows is ignored, as by Quadlet`,
				"hint: name directories by their absolute paths",
			},
		},
		{
			"symlink loop", System, env("QUADLET_UNIT_DIRS=ROOT/loop"),
			[]string{
				"/loop",
				"/loop/a: error: cannot follow: EvalSymlinks: too many links",
				"/loop/b: error: cannot follow: EvalSymlinks: too many links",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dirs, ds := Search{Manager: tt.manager, Getenv: tt.env, UID: 1000, Root: root}.Trees()
			got := under(root, append(slices.Concat(dirs...), texts(ds)...))
			if want := lines(tt.want...); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// TestDirsEnd follows a symlink into a tree that is larger than a search may be.
func TestDirsEnd(t *testing.T) {
	root := tree(t, "units/all -> /large")
	for i := range maxDirs + 10 {
		if err := os.MkdirAll(filepath.Join(root, "large", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": filepath.Join(root, "units")}[name]
	}
	trees, ds := Search{Getenv: env}.Trees()
	if dirs := slices.Concat(trees...); len(dirs) != maxDirs || len(ds) != 1 || !strings.Contains(ds[0].Message, fmt.Sprintf("more than %d directories", maxDirs)) {
		t.Errorf("%d directories, %v", len(dirs), ds)
	}
}

func TestUnits(t *testing.T) {
	root := tree(t,
		"1/b.container", "1/a.container", "1/net.network", "1/notes.txt", "1/x.service",
		"1/dir.container/", "1/a.container.d/", "1/new.artifact",
		"2/a.container", "2/c.container -> /1/b.container", "2/net.network", "2/p.pod",
		"file",
	)
	s, ds := Scan([]Tree{{root + "/1", root + "/missing"}, {root + "/2", root + "/file"}})
	if got, want := under(root, texts(ds)), "/file: error: cannot read directory: not a directory"; got != want {
		t.Errorf("diagnostics %q, want %q", got, want)
	}
	want := lines("/1/a.container", "/1/b.container", "/1/dir.container", "/2/c.container")
	if got := under(root, s.Units(".container")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	want = lines("/1/net.network", "/2/p.pod")
	if got := under(root, s.Units(".network", ".pod")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if got := s.Units(); len(got) != 7 {
		t.Errorf("all kinds are %q", got)
	}
	if got := s.Hidden(); len(got) > 0 {
		t.Errorf("hidden in another tree: %q", got)
	}
	s, _ = Scan([]Tree{{root + "/2", root + "/1"}})
	want = lines("/1/a.container by /2/a.container", "/1/net.network by /2/net.network")
	var hidden []string
	for _, h := range s.Hidden() {
		hidden = append(hidden, h.Path+" by "+h.By)
	}
	if got := strings.ReplaceAll(under(root, hidden), root, ""); got != want {
		t.Errorf("hidden:\n%s\nwant:\n%s", got, want)
	}
}

// quadlet is a stock Quadlet that finds drop-ins as the newest does.
func quadlet(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ZEROLET_QUADLET")
	if path == "" {
		path = "/usr/libexec/podman/quadlet"
	}
	out, err := exec.Command(path, "-version").Output()
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no Quadlet: %s is not there and ZEROLET_QUADLET is not set", path)
	} else if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "%d.%d", &major, &minor); err != nil {
		t.Fatalf("version %q: %v", out, err)
	}
	if major < 5 || major == 5 && minor < 8 {
		// Older ones search each directory in turn for drop-ins of every
		// kind (tried with 5.4.2), or know none.
		t.Skipf("Quadlet %s is older than 5.8", out)
	}
	return path
}

// TestQuadletAgrees compares what we find in random trees with the files that
// stock Quadlet says it loads, in their order.
func TestQuadletAgrees(t *testing.T) {
	path := quadlet(t)
	for seed := range uint64(50) {
		root, dirs := randomTree(t, rand.New(rand.NewPCG(seed, 0)))
		unitDirs := strings.Join(dirs, ":")
		cmd := exec.Command(path, "-dryrun")
		cmd.Env = []string{"QUADLET_UNIT_DIRS=" + unitDirs}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		cmd.WaitDelay = 10 * time.Second
		_ = cmd.Run() // 1: some unit cannot be converted

		var units, dropins, ourUnits, ourDropins []string
		for line := range strings.SplitSeq(stderr.String(), "\n") {
			if _, path, ok := strings.Cut(line, "Loading source unit file "); ok {
				units = append(units, path)
			}
			if _, path, ok := strings.Cut(line, "Loading source drop-in file "); ok {
				dropins = append(dropins, path)
			}
		}
		found, _ := Search{Getenv: func(name string) string {
			return map[string]string{"QUADLET_UNIT_DIRS": unitDirs}[name]
		}}.Trees()
		s, _ := Scan(found)
		for _, path := range s.Units() {
			ourUnits = append(ourUnits, path)
			ourDropins = append(ourDropins, s.Dropins(filepath.Base(path))...)
		}
		if !slices.Equal(units, ourUnits) {
			t.Errorf("seed %d: Quadlet loads\n%s\nwe\n%s", seed, under(root, units), under(root, ourUnits))
		}
		if !slices.Equal(dropins, ourDropins) {
			t.Errorf("seed %d: Quadlet merges\n%s\nwe\n%s", seed, under(root, dropins), under(root, ourDropins))
		}
	}
}

// randomTree makes some search directories that share names, drop-ins,
// symlinks and subdirectories.
func randomTree(t *testing.T, r *rand.Rand) (root string, dirs []string) {
	const unit = "|[Container]\nImage=localhost/a\n"
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	name := func() string {
		return pick("a", "a-b", "a-b-c", "a--b", "t@", "t@1", "a-t@", "a-t@x-y", "z") + pick(".container", ".network", ".volume")
	}
	used := make(map[string]bool)
	var entries []string
	add := func(path, rest string) {
		if !used[path] {
			used[path] = true
			entries = append(entries, path+rest)
		}
	}
	// No unit is unreadable: then Quadlet leaves out the whole directory.
	add("elsewhere/a.container", unit)
	for range 40 {
		dir := pick("1", "2", "3", "1/sub", "2/sub/deep", "elsewhere")
		switch r.IntN(8) {
		case 0, 1, 2:
			add(dir+"/"+name(), unit)
		case 3, 4, 5:
			d := name()
			if r.IntN(3) == 0 {
				d = pick("a-.container", "a-b-.container", "a-@.container", "container", "network", "t@.container")
			}
			add(dir+"/"+d+".d/"+pick("10", "20", "30", "9", "a")+pick(".conf", ".conf", ".txt"), unit)
		case 6:
			add(dir+"/link"+pick("1", "2"), " -> "+pick("/elsewhere", "/1", "..", "/2/sub", "missing"))
		case 7:
			add(dir+"/"+name(), " -> "+pick("/dev/null", "/elsewhere/a.container"))
		}
	}
	root = tree(t, entries...)
	return root, []string{root + "/1", root + "/2", root + "/missing", root + "/3"}
}

func BenchmarkScan(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var entries []string
			for i := range n {
				entries = append(entries,
					fmt.Sprintf("web-%d.container|[Container]\nImage=localhost/web\nPublishPort=%d:80\n", i, 8000+i),
					fmt.Sprintf("web-%d.container.d/10-scale.conf|[ScaleToZero]\nIdleTimeout=30s\n", i))
			}
			dir := tree(b, entries...)
			b.ReportAllocs()
			for b.Loop() {
				s, _ := Scan([]Tree{{dir}})
				for _, path := range s.Units(".container") {
					s.Load(path)
				}
			}
		})
	}
}
