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

// errNoContainer says that the pidfile does not lead to a live container now.
var errNoContainer = errors.New("no container")

// containerNamespace makes sockets in a container's network namespace, by a
// helper that is inside.
type containerNamespace struct {
	way entrance

	mu       sync.Mutex
	helper   *helper
	notUntil time.Time // of the next try to get in
	startErr error
}

// entrance is a way into the network namespace of a container.
type entrance interface {
	// enter returns a helper inside the container that runs now. The error is
	// errNoContainer if there is none, and wraps errHelper if the next try has
	// to wait a little, because it costs a process.
	enter() (*helper, error)
	// close gives up what enter keeps for the next try.
	close()
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
	n.way.close()
}

// start gets a helper into the container that runs now.
func (n *containerNamespace) start() (err error) {
	if time.Now().Before(n.notUntil) {
		return n.startErr
	}
	n.helper, err = n.way.enter()
	if errors.Is(err, errHelper) {
		n.pause(err)
	}
	return err
}

func (n *containerNamespace) pause(why error) {
	n.startErr, n.notUntil = why, time.Now().Add(helperPause)
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
	n.pause(err)
	return err
}
