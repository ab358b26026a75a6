package reach

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A pod is found by its infra container, in whose network namespace all of its
// containers are. Of a .pod file Quadlet has Podman write where the conmon(8) of that one is
// (podman-pod-create(1), --infra-conmon-pidfile). Of a .kube file it does not: there
// all conmons are in the cgroup of the one unit, and the name that Podman gives the
// container tells which is the one. conmon is in the cgroup of the
// pod's unit, the infra container in one of Podman's own, where no unit can be
// told: that it is the child of this conmon is what shows whose it is.

// descend goes from conmon, whose pidfd c has, to the process that it has started.
// That one's pid means it as long as its parent is conmon, which must live: what
// has lost its parent has another one. While a pod ends, conmon has another child,
// "podman container cleanup", in the network of the host.
func (c *container) descend(conmon int) (pid int, err error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", conmon)) // proc_tid_children(5)
	if err != nil {
		return 0, err
	}
	err = ErrNoContainer
	for _, word := range strings.Fields(string(children)) {
		child, e := strconv.Atoi(word)
		if e != nil {
			return 0, e
		}
		pidfd, e := openChild(child, conmon)
		if e != nil {
			continue
		}
		switch foreign, e := inForeignNetwork(child); {
		case e != nil:
			err = e
		case !foreign:
			err = errHostNetwork
		case !c.isAlive():
			err = ErrNoContainer
		default:
			unix.Close(c.pidfd)
			c.pidfd = pidfd
			return child, nil
		}
		unix.Close(pidfd)
	}
	return 0, err
}

// openChild is a pidfd of a process that is the child of another one.
func openChild(pid, parent int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, notThere(os.NewSyscallError("pidfd_open", err))
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err == nil && !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", parent)) {
		err = ErrNoContainer
	}
	if err != nil {
		unix.Close(pidfd)
		return -1, notThere(err)
	}
	return pidfd, nil
}

func inForeignNetwork(pid int) (bool, error) {
	ns, err := openForeign(fmt.Sprintf("/proc/%d/ns/net", pid), "/proc/self/ns/net")
	if err != nil || ns == nil {
		return false, err
	}
	return true, ns.Close()
}

// findInfra is the pid of the conmon of an infra container in a unit. Podman has
// put each of its containers into a cgroup elsewhere, so that no process but
// Podman's is in this one.
func findInfra(unit string) (pid int, err error) {
	u := NewCgroup(unit)
	if u.err != nil {
		return 0, u.err
	}
	err = u.find(func(dir string) bool {
		procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			return false
		}
		for _, word := range strings.Fields(string(procs)) {
			if n, err := strconv.Atoi(word); err == nil && isConmonOfInfra(n) {
				pid = n
				return true
			}
		}
		return false
	})
	if err != nil {
		return 0, ErrNoContainer
	}
	return pid, nil
}

// isConmonOfInfra knows the name that Podman gives an infra container
// (MakeInfraContainer and the like in libpod/runtime_pod_common.go), which conmon(8)
// has after -n.
func isConmonOfInfra(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	words := strings.Split(string(text), "\x00")
	i := slices.Index(words, "-n")
	return filepath.Base(words[0]) == "conmon" && i >= 0 && i+1 < len(words) && strings.HasSuffix(words[i+1], "-infra")
}
