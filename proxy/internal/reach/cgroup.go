package reach

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// cgroups is where the control groups of version 2 are (cgroups(7)).
const cgroups = "/sys/fs/cgroup"

// errStranger says that who answers in the app's place is not in the
// container's unit.
var errStranger = errors.New("not in the container's unit")

// Cgroup is the control group of the container's unit, or those of all units of a
// pod. systemd keeps all
// processes of a unit in it, Podman those of the container below it, and nobody
// but root or the owner of the manager can put one there (cgroups(7),
// "Delegating a hierarchy"). Nothing of it is looked up by a pid in /proc, which
// the sandbox hides.
type Cgroup struct {
	manager string // the directory of the manager that runs the proxy
	units   []string
	err     error // why nothing is known

	mu   sync.Mutex
	dirs []string // where each unit's was found, or ""
	last string   // the directory below it that held what was asked for
}

// NewCgroup is that of units of the manager that runs this process.
func NewCgroup(units ...string) *Cgroup {
	own, err := cgroupPath("/proc/self/cgroup")
	return &Cgroup{manager: filepath.Join(cgroups, managerCgroup(own)), units: units, dirs: make([]string, len(units)), err: err}
}

// Assume has it be the one in a directory, wherever the process itself is.
func (u *Cgroup) Assume(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.units, u.dirs, u.err = u.units[:1], []string{dir}, nil
}

// managerCgroup is the cgroup of the manager to which a unit's belongs: between
// the two are slices, and nothing else (systemd.slice(5)). What systemd runs to stop
// a unit with Delegate= is in one of its own below that (exec_params_get_cgroup_path()
// in src/core/execute.c).
func managerCgroup(unit string) string {
	dir := filepath.Dir(strings.TrimSuffix(unit, "/.control"))
	for strings.HasSuffix(dir, ".slice") {
		dir = filepath.Dir(dir)
	}
	return dir
}

// inUnit reports whether a cgroup is that of a manager's unit or below it. What
// another unit of whatever name has below its own is not.
func inUnit(path, manager, unit string) bool {
	below, ok := strings.CutPrefix(path, strings.TrimSuffix(manager, "/")+"/")
	if !ok {
		return false
	}
	for name := range strings.SplitSeq(below, "/") {
		if !strings.HasSuffix(name, ".slice") {
			return isCgroupOf(name, unit)
		}
	}
	return false
}

// holds reports whether a process is in the unit. Its pid must be known to mean
// that process.
func (u *Cgroup) holds(pid int) error {
	line := strconv.Itoa(pid)
	return u.find(func(dir string) bool {
		f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return false // gone, or threaded
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if s.Text() == line {
				return true
			}
		}
		return false
	})
}

// owns reports whether the unit has a cgroup with an id, as the kernel writes it of
// sockets: that is the handle of its directory (kernfs_encode_fh() in
// fs/kernfs/mount.c).
func (u *Cgroup) owns(id uint64) error {
	return u.find(func(dir string) bool {
		handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, 0)
		return err == nil && handle.Size() == 8 && binary.NativeEndian.Uint64(handle.Bytes()) == id
	})
}

// find fails unless one of the unit's directories is the right one. The one that
// was it the last time is asked first.
func (u *Cgroup) find(right func(dir string) bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return u.err
	}
	if u.last != "" && right(u.last) {
		return nil
	}
	found := fmt.Errorf("%w: %s has no cgroup", errStranger, u.units[0])
	for i, unit := range u.units {
		if _, err := os.Stat(u.dirs[i]); err != nil { // it goes with the last process
			u.dirs[i] = unitDir(u.manager, unit)
		}
		if u.dirs[i] == "" {
			continue
		}
		found = errStranger
		_ = filepath.WalkDir(u.dirs[i], func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && right(path) {
				u.last, found = path, nil
				return filepath.SkipAll
			}
			return nil // what cannot be read is gone
		})
		if found == nil {
			return nil
		}
	}
	return found
}

// unitDir looks for a unit's directory below the manager's. It goes through
// slices alone: what other units have below their own is theirs to name.
func unitDir(dir, unit string) string {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case !e.IsDir():
		case isCgroupOf(e.Name(), unit):
			return path
		case strings.HasSuffix(e.Name(), ".slice"):
			if found := unitDir(path, unit); found != "" {
				return found
			}
		}
	}
	return ""
}

// isCgroupOf knows the underscore that systemd puts before the name of a unit
// that could be a file of the kernel's: memory.service, for instance
// (cg_escape() in src/basic/cgroup-util.c).
func isCgroupOf(name, unit string) bool { return name == unit || name == "_"+unit }

// cgroupPath reads the line of version 2, "0::/PATH" (cgroups(7)).
func cgroupPath(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("has no cgroup of version 2")
}
