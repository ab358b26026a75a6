package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroup is a group of a machine's own in the unified hierarchy. Without it two machines started from one
// process would share a group: with --keep-unit systemd-nspawn makes "payload" below the group that it runs
// in. It is also the way to end a machine with every process, and to know that all are gone.
type cgroup struct {
	path string
	// legacy is its like in systemd's hierarchy of cgroup v1, "" if the host has none. There systemd-nspawn makes
	// the same groups once more (nspawn-cgroup.c).
	legacy string
}

// findCgroup names a group below the root of the host's cgroup2 file system. The group need not exist.
func findCgroup(name string) (*cgroup, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	c := new(cgroup)
	for line := range strings.Lines(string(mounts)) {
		switch f := strings.Fields(line); {
		case len(f) < 4:
		case f[2] == "cgroup2":
			c.path = filepath.Join(f[1], name)
		case f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), "name=systemd"):
			c.legacy = filepath.Join(f[1], name)
		}
	}
	if c.path == "" {
		return nil, errors.New("no cgroup2 file system is mounted")
	}
	return c, nil
}

// open makes the group and returns its directory for use as syscall.SysProcAttr.CgroupFD.
func (c *cgroup) open() (*os.File, error) {
	if err := os.Mkdir(c.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Open(c.path)
}

// kill ends every process of the group and of those below it and waits until they are gone.
func (c *cgroup) kill() error {
	err := os.WriteFile(filepath.Join(c.path, "cgroup.kill"), []byte("1"), 0)
	if errors.Is(err, fs.ErrNotExist) && !exists(c.path) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.waitEmpty()
}

// waitEmpty waits for the last process. A process leaves its namespaces before its group (do_exit in the
// kernel), so the machine's mounts are gone then.
func (c *cgroup) waitEmpty() error {
	events, err := os.Open(filepath.Join(c.path, "cgroup.events"))
	if err != nil {
		return err
	}
	defer events.Close()
	for {
		state := make([]byte, 256)
		n, err := events.ReadAt(state, 0)
		if n == 0 {
			return fmt.Errorf("%s: %w", events.Name(), err)
		}
		if bytes.Contains(state[:n], []byte("populated 0")) {
			return nil
		}
		// A change of cgroup.events is POLLPRI (Documentation/admin-guide/cgroup-v2.rst).
		poll := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// remove deletes the empty group and the empty groups below it.
func (c *cgroup) remove() error {
	err := removeGroups(c.path)
	if c.legacy != "" {
		err = errors.Join(err, removeGroups(c.legacy))
	}
	return err
}

func removeGroups(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, removeGroups(filepath.Join(path, entry.Name())))
		}
	}
	return errors.Join(err, os.Remove(path))
}
