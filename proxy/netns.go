package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// HelperArg as the only argument makes the program the helper that makes
// sockets in the network namespace it is started in.
const HelperArg = "--netns-helper"

const (
	// batch is how many sockets the helper makes for one request.
	batch = 16
	// most is how many addresses of a container are tried.
	most = 16
	// helperTimeout bounds the start of a helper and each answer.
	helperTimeout = 5 * time.Second
	// helperGrace is how long a helper may take to end.
	helperGrace = time.Second
	// helperPause is the least time between two starts when they fail.
	helperPause = 100 * time.Millisecond
)

// The descriptors of a helper and of the nsenter(1) that becomes it.
const (
	helperConn = 3 + iota
	helperExe
	helperNet
	helperUser
)

// errNoContainer says that the pidfile does not lead to a live container now.
var errNoContainer = errors.New("no container")

// containerNamespace makes sockets in a container's network namespace. A
// helper process does that: entering the user namespace that owns it is
// refused to a process with several threads (setns(2)), and a Go program has
// several. So nsenter(1) enters and then becomes this program again.
type containerNamespace struct {
	pidfile, unit string
	// cgroup tells where the kernel writes the cgroup of a process.
	cgroup func(pid int) string

	mu       sync.Mutex
	helper   *helper
	notUntil time.Time // of the next start
	startErr error
}

func newContainerNamespace(pidfile, unit string) *containerNamespace {
	return &containerNamespace{
		pidfile: pidfile, unit: unit,
		cgroup: func(pid int) string { return fmt.Sprintf("/proc/%d/cgroup", pid) },
	}
}

func (n *containerNamespace) socket(family, kind int) (fd int, err error) {
	err = n.ask(func(h *helper) (err error) {
		fd, err = h.socket(socketKind{byte(family), byte(kind)})
		return err
	})
	return fd, err
}

// ask has the helper do something, and starts one for it if need be.
func (n *containerNamespace) ask(f func(*helper) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper == nil {
		if err := n.start(); err != nil {
			return err
		}
	}
	err := f(n.helper)
	if errors.Is(err, errHelper) {
		err = n.broken(err)
	}
	return err
}

func (n *containerNamespace) admit() (a *admission, err error) {
	err = n.ask(func(h *helper) (err error) {
		a, err = h.admit()
		return err
	})
	return a, err
}

func (n *containerNamespace) own() []netip.Addr {
	a, err := n.admit()
	if err != nil {
		return nil // the next dial says so
	}
	return a.own
}

// sources leaves who is dialled at an address of the container's own to come
// from the same one, as everybody does inside.
func (n *containerNamespace) sources(to Address) ([]netip.AddrPort, error) {
	if to.Network == UDP || !to.IP.Addr().IsLoopback() {
		return anySource, nil
	}
	a, err := n.admit()
	if err != nil {
		return nil, err
	}
	return a.sources(to)
}

// verify has nothing to find but an address that a container had and the next
// one has not: that may be a neighbour's by now. Who talks to an address of its own
// does so from the same.
func (n *containerNamespace) verify(fd int) error {
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return nil // reset already
	}
	if address(TCP, remote).IP.Addr().IsLoopback() {
		return nil
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if address(TCP, local).IP.Addr() != address(TCP, remote).IP.Addr() {
		return errNoContainer
	}
	return nil
}

// refused gives the helper up if its container has died: its namespace lives
// on as long as the helper does, and refuses every connection. If not, the
// container may not have had its network yet.
func (n *containerNamespace) refused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.helper == nil:
	case n.helper.container.isAlive():
		n.helper.admission = nil
	default:
		n.drop()
	}
}

func (n *containerNamespace) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper != nil {
		n.drop()
	}
}

// start gets a helper for the container that the pidfile tells of. If that is
// there and yet cannot be entered, the next try has to wait: it costs a
// process.
func (n *containerNamespace) start() error {
	if time.Now().Before(n.notUntil) {
		return n.startErr
	}
	c, err := openContainer(n.pidfile, n.unit, n.cgroup)
	if err != nil {
		return err
	}
	n.helper, err = startHelper(c)
	if err != nil {
		c.close()
		n.startErr, n.notUntil = err, time.Now().Add(helperPause)
	}
	return err
}

// drop ends the helper and returns the last thing it said.
func (n *containerNamespace) drop() (said string) {
	said = n.helper.close()
	n.helper = nil
	return said
}

// broken drops the helper that failed with err and says why: no container
// perhaps, or what the helper had to say.
func (n *containerNamespace) broken(err error) error {
	alive := n.helper.container.isAlive()
	said := n.drop()
	if !alive {
		return errNoContainer
	}
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	n.startErr, n.notUntil = err, time.Now().Add(helperPause)
	return err
}
