package reach

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// A rootful container is entered by a process of its own, the entry. Its proxy
// is a user without a name and has no privilege. systemd listens for the entry,
// starts it beside the container and gives it what entering takes; it enters
// when the proxy asks it to, gives up what it needs no more, and from then on
// is the proxy's helper (inside.go). One entry enters once: for the next container the
// proxy connects again, and systemd starts the next one.

// entry is the proxy's end.
type entry struct {
	path string
	conn *net.UnixConn // not inside yet; nil if there is none
}

func (e *entry) close() {
	if e.conn != nil {
		_ = e.conn.Close()
		e.conn = nil
	}
}

func (e *entry) connect() error {
	if e.conn != nil {
		return nil
	}
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: e.path, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("%w: %w", errHelper, err)
	}
	e.conn = conn
	return nil
}

func (e *entry) enter() (*helper, error) {
	if err := e.connect(); err != nil {
		return nil, err
	}
	h := newHelper(e.conn)
	pidfd, err := h.enter()
	if errors.Is(err, errHelper) {
		e.close()
	}
	if err != nil {
		return nil, err
	}
	h.container = &container{pidfd: pidfd}
	e.conn = nil
	return h, nil
}

// enter has the entry enter, and returns a pidfd of the container.
func (h *helper) enter() (int, error) {
	why, rights := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, err := h.exchange([]byte{askEnter}, why, rights)
	switch {
	case errors.Is(err, errHelper):
		return -1, err
	case errors.Is(err, unix.ESRCH):
		return -1, ErrNoContainer
	case err != nil:
		return -1, errors.New(string(why[:n]))
	}
	fds, err := parseRights(rights[:oobn])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%w: no pidfd in its answer", errHelper)
	}
	return fds[0], nil
}

// Enter is the entry's process: it serves the proxy that connects to the passed
// socket, and ends with it. Of cfg it takes Container, Members, PIDFile, Conmon,
// Infra, Client and Freeze.
func Enter(cfg wire.Config, files []*os.File) error {
	// Nothing in the container may trace it.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	i := inside{watchdog: report.NewWatchdog(), units: NewCgroup(append([]string{cfg.Container}, cfg.Members...)...)}
	if err := acceptProxy(files, cfg.Client); err != nil {
		return err
	}
	if len(cfg.Freeze) > 0 {
		i.frozen = NewCgroup(cfg.Freeze...)
	}
	if !cfg.Inside() {
		return i.serve()
	}
	i.enter = func() (int, error) {
		c, err := openContainer(whereaboutsOf(cfg))
		if err != nil {
			return -1, err
		}
		return c.enter()
	}
	return i.serve()
}

// acceptProxy makes the connection of the proxy descriptor helperConn. Nobody
// else can reach the socket: its directory is root's, and shown to the proxy
// alone. That it is the proxy is looked at all the same.
func acceptProxy(files []*os.File, client string) error {
	if len(files) != 1 {
		return fmt.Errorf("%w: %d sockets were passed, not one", wire.ErrConfig, len(files))
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	conn := -1
	accept := func(fd uintptr) { conn, err = acceptFrom(int(fd), client) }
	if e := raw.Control(accept); e != nil {
		return e
	}
	files[0].Close()
	if err != nil || conn == helperConn {
		return err
	}
	if err := unix.Dup3(conn, helperConn, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	return unix.Close(conn)
}

// acceptFrom accepts connections until one is of the client, a unit, which has not
// hung up by now: it does so when it gets no answer, and tries again.
func acceptFrom(fd int, client string) (int, error) {
	for {
		conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return -1, os.NewSyscallError("accept4", err)
		}
		switch err = isOf(conn, client); {
		case err != nil:
			fmt.Fprintln(os.Stderr, "who connects is not the proxy:", err)
		case !sock.Ready(conn, unix.POLLHUP):
			return conn, nil
		}
		unix.Close(conn)
	}
}

// isOf fails unless the other end of a connection is in the cgroup of the unit.
func isOf(conn int, unit string) error {
	peer, err := unix.GetsockoptUcred(conn, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	return checkCgroup(procCgroup(int(peer.Pid)), unit)
}

// enter takes all threads into the container's network, and returns the pidfd.
func (c *container) enter() (int, error) {
	defer c.closeNamespaces()
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_SETNS, c.net.Fd(), unix.CLONE_NEWNET, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("setns", errno)
	}
	return c.pidfd, keepNetworkAdmin()
}

// keepNetworkAdmin has all threads give up what was needed to enter. What is
// left is for the rules and sockets of inside, in this network alone. Who has not
// been given it does without: clients have not their own addresses then.
func keepNetworkAdmin() error {
	const admin = 1 << unix.CAP_NET_ADMIN
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	left := sets[0].Permitted & admin
	sets = [2]unix.CapUserData{{Effective: left, Permitted: left}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0) //nolint:gosec // the kernel takes addresses
	if errno != 0 {
		return os.NewSyscallError("capset", errno)
	}
	return nil
}
