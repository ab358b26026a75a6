package reach

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Quadlet has Podman write where the conmon(8) of a pod's infra container is
// (podman-pod-create(1), --infra-conmon-pidfile). conmon is in the cgroup of the
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
