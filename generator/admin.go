package generator

import (
	"os"
	"path/filepath"

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

// AdminUnit tells whether the administrator has a unit file of a name, and
// whether it is a mask: a link to /dev/null or an empty file
// (systemd.unit(5)).
func AdminUnit(m quadlet.Manager, getenv func(string) string) func(name string) (exists, masked bool) {
	dirs := make(map[string][]string) // that have a unit, by its name
	for _, dir := range adminDirs(m, getenv) {
		entries, _ := os.ReadDir(dir) // what systemd cannot read does not win either
		for _, e := range entries {
			dirs[e.Name()] = append(dirs[e.Name()], dir)
		}
	}
	return func(name string) (exists, masked bool) {
		for _, dir := range dirs[name] {
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
