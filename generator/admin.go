package generator

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// adminDirs are the directories of the unit path that belong to the
// administrator and come after generator.early (systemd.unit(5), "Unit File
// Load Path"): what is there would lose against our unit.
func adminDirs(m quadlet.Manager, getenv func(string) string) []string {
	if m == quadlet.System {
		return []string{
			"/etc/systemd/system", "/etc/systemd/system.attached",
			"/run/systemd/system", "/run/systemd/system.attached",
		}
	}
	dirs := []string{"/etc/systemd/user", "/run/systemd/user"}
	config := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); config == "" && home != "" {
		config = filepath.Join(home, ".config")
	}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "systemd/user"))
	}
	if runtime := getenv("XDG_RUNTIME_DIR"); runtime != "" {
		dirs = append(dirs, filepath.Join(runtime, "systemd/user"))
	}
	return dirs
}

// adminUnit is the administrator's unit in the place of the container's.
type adminUnit int

const (
	none   adminUnit = iota
	own              // wins over what Quadlet makes
	masked           // and is no unit at all
)

// AdminUnit reports whether the administrator has a unit file of a name, and
// whether it is a mask.
func (p *Plan) AdminUnit(name string) (exists, masked bool) {
	if p.adminUnit == nil {
		return false, false
	}
	return p.adminUnit(name)
}

// checkAdmin warns of units of the administrator that win over ours.
func (p *Plan) checkAdmin(unit func(name string) (exists, masked bool)) {
	p.adminUnit = unit
	for _, e := range p.Endpoints {
		if e.Spec.Unit == "" {
			continue
		}
		warn := func(hint, format, name string) {
			e.Diagnostics.Warnf(quadlet.Pos{File: e.Spec.File.Path}, hint, format, name)
		}
		service := e.name(wire.Container)
		switch exists, mask := unit(service); {
		case mask:
			e.admin = masked
			warn("systemctl unmask brings it back", "%s is masked: the endpoint is left out", service)
			continue
		case exists:
			e.admin = own
			warn("", "%s is the administrator's own: none is generated", service)
			e.unfreeze(service)
		}
		for _, m := range e.Members {
			switch exists, mask := unit(m.service()); {
			case mask:
				m.admin = masked
				warn("systemctl unmask brings it back", "%s is masked: the container is left out of the pod", m.service())
			case exists:
				m.admin = own
				warn("", "%s is the administrator's own: none is generated", m.service())
				e.unfreeze(m.service())
			}
		}
		for _, name := range e.reserved() {
			if exists, mask := unit(name); exists && !mask {
				warn("rename one of the two; a drop-in changes the generated one",
					"%s is the administrator's own: it takes the place of the generated one", name)
			}
		}
	}
}

// AdminUnit reports whether the administrator has a unit file of a name, and
// whether it is a mask: a link to /dev/null or an empty file
// (systemd.unit(5)).
func AdminUnit(m quadlet.Manager, getenv func(string) string) func(name string) (exists, masked bool) {
	dirs := sync.OnceValue(func() map[string][]string { // that have a unit, by its name
		dirs := make(map[string][]string)
		for _, dir := range adminDirs(m, getenv) {
			entries, _ := os.ReadDir(dir) // what systemd cannot read does not win either
			for _, e := range entries {
				dirs[e.Name()] = append(dirs[e.Name()], dir)
			}
		}
		return dirs
	})
	return func(name string) (exists, masked bool) {
		for _, dir := range dirs()[name] {
			path := filepath.Join(dir, name)
			if target, err := filepath.EvalSymlinks(path); err == nil && target == os.DevNull {
				return true, true
			}
			if info, err := os.Stat(path); err == nil {
				return true, info.Size() == 0
			}
		}
		return false, false
	}
}
