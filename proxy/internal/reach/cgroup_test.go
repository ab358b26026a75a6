package reach

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

func TestManagerCgroup(t *testing.T) {
	for unit, want := range map[string]string{
		"/system.slice/web-proxy.service":                                                 "/",
		"/web-proxy.service":                                                              "/",
		"/system.slice/system-web.slice/web@1-proxy.service":                              "/",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/web-proxy.service":       "/user.slice/user-1000.slice/user@1000.service",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/web.service": "/user.slice/user-1000.slice/user@1000.service",
	} {
		if got := managerCgroup(unit); got != want {
			t.Errorf("%s: %s, want %s", unit, got, want)
		}
	}
}

// A user's manager is no other than its own, whatever the units are called.
func TestInUnit(t *testing.T) {
	const user = "/user.slice/user-1000.slice/user@1000.service"
	for path, want := range map[string]bool{
		user + "/app.slice/web.service/payload":                               true,
		user + "/app.slice/other.service/web.service":                         false,
		"/user.slice/user-1001.slice/user@1001.service/app.slice/web.service": false,
		"/system.slice/web.service":                                           false,
		user + "x/app.slice/web.service":                                      false,
		user:                                                                  false,
	} {
		if got := inUnit(path, user, "web.service"); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// A unit is found in any slice of its manager, and not where somebody else has
// given that name to a cgroup.
func TestUnitCgroup(t *testing.T) {
	for dir, within := range map[string]bool{
		"web.service":                             true,
		"a.slice/a-b.slice/web.service":           true,
		"a.slice/web.service/payload":             true,
		"a.slice/web.service/payload/below":       true,
		"a.slice/other.service":                   false,
		"a.slice/other.service/web.service":       false,
		"a.slice/u@1.service/b.slice/web.service": false,
		"web.service.d":                           false,
	} {
		manager := t.TempDir()
		path := filepath.Join(manager, dir)
		proxytest.Must(0, os.MkdirAll(path, 0o755))(t)
		proxytest.Must(0, os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte("7\n123\n45\n"), 0o600))(t)
		u := &Cgroup{manager: manager, units: []string{"web.service"}, dirs: make([]string, 1)}
		for range 2 { // the second time it is known where
			if err := u.holds(123); (err == nil) != within || err != nil && !errors.Is(err, errStranger) {
				t.Errorf("%s: %v", dir, err)
			}
			if u.holds(12) == nil || u.holds(1234) == nil {
				t.Errorf("%s: a part of a pid is taken for one", dir)
			}
		}
	}
	if u := (&Cgroup{err: os.ErrNotExist}); u.holds(1) == nil {
		t.Error("without cgroups everybody is in the unit")
	}
}

// Names that the kernel could have for files of its own (cg_escape() of systemd).
func TestEscapedUnitCgroup(t *testing.T) {
	manager := t.TempDir()
	proxytest.Must(0, os.MkdirAll(filepath.Join(manager, "system.slice", "_memory.service"), 0o755))(t)
	proxytest.Must(0, os.WriteFile(filepath.Join(manager, "system.slice", "_memory.service", "cgroup.procs"), []byte("123\n"), 0o600))(t)
	if err := (&Cgroup{manager: manager, units: []string{"memory.service"}, dirs: make([]string, 1)}).holds(123); err != nil {
		t.Error(err)
	}
	file := filepath.Join(manager, "cgroup")
	proxytest.Must(0, os.WriteFile(file, []byte("0::/system.slice/_memory.service/payload\n"), 0o600))(t)
	if err := checkCgroup(file, "memory.service"); err != nil {
		t.Error(err)
	}
}
