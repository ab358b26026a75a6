package reach

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Processor is how much processor time the processes of the units have used,
// those that have ended included. The kernel counts it whatever controllers are
// there (Documentation/admin-guide/cgroup-v2.rst, cpu.stat).
func (u *Cgroup) Processor() (used time.Duration, err error) {
	dirs, err := u.own()
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		one, err := processor(dir)
		if err != nil {
			return 0, err
		}
		used += one
	}
	return used, nil
}

func processor(dir string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "usage_usec "); ok {
			us, err := strconv.ParseInt(value, 10, 64)
			return time.Duration(us) * time.Microsecond, err
		}
	}
	return 0, fmt.Errorf("%s/cpu.stat does not tell usage_usec", dir)
}

// ID tells one life of the container from the next: the kernel gives no two cgroups
// the same (kernfs_new_node() in fs/kernfs/dir.c).
func (u *Cgroup) ID() (uint64, error) {
	dirs, err := u.own()
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(dirs[0])
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// own are the directories of those units that have one, at least of the first.
func (u *Cgroup) own() (dirs []string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return nil, u.err
	}
	for i, unit := range u.units {
		if _, err := os.Stat(u.dirs[i]); err != nil { // it goes with the last process
			u.dirs[i] = unitDir(u.manager, unit)
		}
		if u.dirs[i] != "" {
			dirs = append(dirs, u.dirs[i])
		} else if i == 0 {
			return nil, fmt.Errorf("%s has no cgroup", unit)
		}
	}
	return dirs, nil
}
