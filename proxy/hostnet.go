package proxy

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// errUntold says why nobody is reached: CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG
	// or CONFIG_SOCK_CGROUP_DATA is missing, or it is older than Linux 5.8.
	errUntold = errors.New("the kernel does not tell whose the socket is (sock_diag)")
	// errUnproven says that the next connection may be known by its listener.
	errUnproven = errors.New("not known yet who answers")
)

// hostNetwork reaches apps that listen in the host's network, as anybody can
// while the container sleeps. So whoever answers must be in the container's
// unit: a socket keeps the cgroup of the process that made it, or that of the
// listener from which it was accepted (cgroup_sk_alloc() and cgroup_sk_clone()
// in kernel/cgroup/cgroup.c), and the kernel tells that of any socket of this
// namespace (INET_DIAG_CGROUP_ID, inet_diag_msg_attrs_fill() in
// net/ipv4/inet_diag.c).
type hostNetwork struct {
	ownNamespace
	cgroup *unitCgroup
	diag   *diag
	err    error // why there is none

	mu     sync.Mutex
	proven map[netip.AddrPort]uint64 // listeners that were in the unit, by cookie
}

func newHostNetwork(cgroup *unitCgroup) *hostNetwork {
	d, err := newDiag()
	return &hostNetwork{cgroup: cgroup, diag: d, err: err, proven: make(map[netip.AddrPort]uint64)}
}

func (h *hostNetwork) close() {
	if h.diag != nil {
		h.diag.close()
	}
}

// dialFrom is that in the host's network.
func (h *hostNetwork) dialFrom(addr Address, from netip.AddrPort) (*socket, error) {
	_, _, sa := addr.sockaddr()
	if addr.Network == UDP {
		return connectAs(h, addr, sa, from)
	}
	return connectAs(hostApp{h, addr.IP}, addr, sa, from)
}

// verify looks who would get what is sent through a socket for datagrams.
func (h *hostNetwork) verify(fd int) error {
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	s, known, err := h.find(fd, UDP, address(UDP, remote).IP)
	switch {
	case err != nil:
		return err
	case !known:
		return h.absent(fd, UDP, address(UDP, remote).IP, unix.ECONNREFUSED)
	}
	return h.within(s)
}

// hostApp verifies connections to one address.
type hostApp struct {
	*hostNetwork
	addr netip.AddrPort
}

// verify looks at the socket that a connection has ended in. It may be none of
// a process any more, or not yet: reset, or closed after a few words, or with
// the last segment of the handshake still on its way. Then its listener stands
// for it, if that was known before the connection was made, and is there yet:
// as long as it is, nobody else can listen there.
func (a hostApp) verify(fd int) error {
	s, known, err := a.find(fd, TCP, a.addr)
	if err != nil {
		return err
	}
	const accepted = inUse &^ (1 << unix.BPF_TCP_SYN_RECV)
	if known && accepted>>s.state&1 != 0 && s.cgroup != 0 { // what only waits for the last segments has none
		return a.within(s)
	}
	l, known, err := a.diag.find(endpoints{TCP, a.addr.Addr().Is6(), a.addr, netip.AddrPort{}})
	switch {
	case err != nil:
		return err
	case !known:
		return a.absent(fd, TCP, a.addr, unix.ECONNREFUSED)
	}
	if err := a.within(l); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.proven[a.addr] != l.cookie {
		a.proven[a.addr] = l.cookie
		return errUnproven
	}
	return nil
}

// find looks up the far end of a socket.
func (h *hostNetwork) find(fd int, network Network, remote netip.AddrPort) (found, bool, error) {
	if h.err != nil {
		return found{}, false, h.err
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return found{}, false, os.NewSyscallError("getsockname", err)
	}
	return h.diag.find(endpoints{network, isV6(fd), remote, address(network, local).IP})
}

// absent is the error where no socket was found: nobody is there, or the kernel
// does not know of our own either.
func (h *hostNetwork) absent(fd int, network Network, remote netip.AddrPort, nobody error) error {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	_, known, err := h.diag.find(endpoints{network, isV6(fd), address(network, local).IP, remote})
	switch {
	case err != nil:
		return err
	case !known && !isGone(fd):
		return errUntold
	}
	return nobody
}

// within fails unless a socket is the unit's.
func (h *hostNetwork) within(s found) error {
	if s.cgroup == 0 {
		return errUntold
	}
	return h.cgroup.owns(s.cgroup)
}

// verifyInterval is how long a look at where datagrams go is good for. In the
// host's network they are looked at whenever some have come: who takes the app's
// port is sent no more than what came with the last that were the app's.
func verifyInterval(source socketSource) time.Duration {
	if _, ok := source.(*hostNetwork); ok {
		return time.Nanosecond
	}
	return verifyEvery
}
