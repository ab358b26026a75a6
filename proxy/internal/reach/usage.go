package reach

import (
	"fmt"
	"os"
	"syscall"
)

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
