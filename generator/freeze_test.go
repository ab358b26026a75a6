package generator

import (
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// What is frozen together: what nothing else needs, and what zerolet's own unit thaws before it stops.
func TestFrozen(t *testing.T) {
	const port, freeze = "[Container]\nImage=i\nPublishPort=8080:80\n", "[ScaleToZero]\nSleep=freeze\n"
	needs := func(name string) string { return "[Unit]\nRequires=" + name + ".service\n" }
	for _, test := range []struct {
		name   string
		files  map[string]string
		admin  string
		frozen string // with web
	}{
		{"alone", map[string]string{"web": port + freeze}, "", "web.service"},
		{"a chain", map[string]string{
			"web": needs("db") + port + freeze, "db": needs("disk") + "[Container]\nImage=i\n[ScaleToZero]\n", "disk": "[Container]\nImage=i\n[ScaleToZero]\n",
		}, "", "web.service db.service disk.service"},
		{"another needs it, too", map[string]string{
			"web": needs("db") + port + freeze, "db": "[Container]\nImage=i\n[ScaleToZero]\n", "job": needs("db") + "[Container]\nImage=i\n",
		}, "", "web.service"},
		{"the administrator's", map[string]string{"web": port + freeze}, "web.service", ""},
		{"the administrator's database", map[string]string{
			"web": needs("db") + port + freeze, "db": "[Container]\nImage=i\n[ScaleToZero]\n",
		}, "db.service", "web.service"},
		{"needed", map[string]string{"web": port + freeze, "job": needs("web") + "[Container]\nImage=i\n"}, "", ""},
	} {
		var files []*quadlet.File
		for name, text := range test.files {
			f, _ := quadlet.Parse("/etc/containers/systemd/"+name+".container", []byte(text))
			files = append(files, f)
		}
		p := NewPlan(quadlet.Search{Manager: quadlet.User}, files)
		p.checkAdmin(func(name string) (exists, masked bool) { return name == test.admin, false })
		i := slices.IndexFunc(p.Endpoints, func(e *Endpoint) bool { return e.Spec.Unit == "web" })
		if got := strings.Join(p.Endpoints[i].Frozen(), " "); got != test.frozen {
			t.Errorf("%s: %q, want %q: %v", test.name, got, test.frozen, p.All())
		}
	}
}
