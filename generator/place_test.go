package generator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// Containers wait for a place only if there are more of them than places. What has an
// error does not count, as a pod for the Quadlet that is built in, nor what the
// administrator has masked.
func TestCrowd(t *testing.T) {
	files := map[string]string{
		"all.pod":          "[Pod]\nPublishPort=8080:80\n[ScaleToZero]\n",
		"one.container":    "[Container]\nImage=localhost/one\nPod=all.pod\n",
		"two.container":    "[Container]\nImage=localhost/two\nPod=all.pod\n",
		"db.container":     "[Container]\nImage=localhost/db\n[ScaleToZero]\n",
		"web.container":    "[Unit]\nRequires=db.service\n[Container]\nImage=localhost/web\nPublishPort=8081:80\n[ScaleToZero]\n",
		"bad.container":    "[Container]\nImage=localhost/bad\nPublishPort=8082:80\n[ScaleToZero]\nIdel=1\n",
		"masked.container": "[Container]\nImage=localhost/masked\nPublishPort=8083:80\n[ScaleToZero]\n",
		"plain.container":  "[Container]\nImage=localhost/plain\nPublishPort=8084:80\n",
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	crowd := []string{"db.service", "web.service"}
	for _, test := range []struct {
		starts     string
		processors int
		named      []string
		want       []string
		warns      bool
	}{
		{processors: 1},
		{processors: 0, want: crowd},
		{starts: "2"},
		{starts: "1", processors: 8, want: crowd},
		{starts: "1", processors: 8, named: []string{"web"}, want: []string{"web.service"}},
		{starts: "2", named: []string{"web"}},
		{starts: "infinity"},
		{starts: "0", processors: 8, want: crowd, warns: true},
		{starts: "few", processors: 8, want: crowd, warns: true},
	} {
		t.Run(fmt.Sprintf("%s of %d for %v", test.starts, test.processors, test.named), func(t *testing.T) {
			g := Generator{
				Search: quadlet.Search{Getenv: func(name string) string {
					return map[string]string{"QUADLET_UNIT_DIRS": dir, StartsVariable: test.starts}[name]
				}},
				Processors: test.processors,
				AdminUnit: func(name string) (exists, masked bool) {
					is := name == "masked.service"
					return is, is
				},
			}
			p := g.Plan(t.Context())
			warned := slices.ContainsFunc(p.Diagnostics, func(d quadlet.Diagnostic) bool {
				return d.Severity == quadlet.Warning && d.Pos.File == StartsVariable && strings.Contains(d.Message, test.starts)
			})
			if warned != test.warns {
				t.Errorf("%v", p.Diagnostics)
			}
			if len(test.named) > 0 {
				if err := p.Select(test.named); err != nil {
					t.Fatal(err)
				}
			}
			var waiting []string
			for _, u := range p.Units(Layout{Zerolet: "/usr/bin/zerolet"}) {
				if strings.Contains(string(u.Text()), "\nExecStartPre=-:/usr/bin/zerolet place --system -- ") {
					waiting = append(waiting, u.Name)
				}
			}
			if slices.Sort(waiting); !slices.Equal(waiting, test.want) {
				t.Errorf("%q wait, want %q", waiting, test.want)
			}
		})
	}
}

// One file more, or another machine, changes nobody else's settings.
func TestPlaceIsNoChange(t *testing.T) {
	unit := func(text string, crowded bool) Unit {
		f, _ := quadlet.Parse("/etc/containers/systemd/web.container", []byte(text))
		e := NewPlan(quadlet.Search{}, []*quadlet.File{f}).Endpoints[0]
		e.Service, e.crowded = f, crowded
		return e.service(Layout{Zerolet: "/usr/bin/zerolet"})
	}
	const text = "[Container]\nImage=localhost/web\nPublishPort=8080:80\n[ScaleToZero]\n[Service]\nExecStartPre=/bin/true\n"
	alone, crowded := unit(text, false), unit(text, true)
	if string(alone.Text()) == string(crowded.Text()) {
		t.Fatal("nobody waits")
	}
	if !alone.Same(crowded.Text()) || !crowded.Same(alone.Text()) {
		t.Error("to wait for a place is a change")
	}
	for _, line := range []string{"ExecStartPre=/bin/true", "ExecStartPre=/usr/bin/zerolet place"} {
		other := unit(strings.Replace(text, "ExecStartPre=/bin/true", line+"\nExecStartPre=/bin/false", 1), true)
		if alone.Same(other.Text()) || other.Same(alone.Text()) {
			t.Errorf("%s, and another one, is no change", line)
		}
	}
}
