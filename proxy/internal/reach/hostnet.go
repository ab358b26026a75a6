package reach

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
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
	cgroup *Cgroup
	diag   *sock.Diag
	err    error // why there is none

	mu     sync.Mutex
	proven map[netip.AddrPort]uint64 // listeners that were in the unit, by cookie
}

func newHostNetwork(cgroup *Cgroup) *hostNetwork {
	d, err := sock.NewDiag()
	return &hostNetwork{cgroup: cgroup, diag: d, err: err, proven: make(map[netip.AddrPort]uint64)}
}

func (h *hostNetwork) Close() {
	if h.diag != nil {
		h.diag.Close()
	}
}

// Verify looks who would get what is sent through a socket. A connection may be
// none of a process any more, or not yet: reset, or closed after a few words, or
// with the last segment of the handshake still on its way. Then its listener
// stands for it, if that was known before the connection was made, and is there
// yet: as long as it is, nobody else can listen there.
func (h *hostNetwork) Verify(fd int, to wire.Address) error {
	s, known, err := h.find(fd, to)
	const accepted = sock.InUse &^ (1 << unix.BPF_TCP_SYN_RECV)
	switch {
	case err != nil:
		return err
	case known && to.Network == wire.UDP,
		known && accepted>>s.State&1 != 0 && s.Cgroup != 0: // what only waits for the last segments has none
		return h.within(s)
	case to.Network == wire.UDP:
		return h.absent(fd, to)
	}
	l, known, err := h.diag.Find(sock.Endpoints{Network: wire.TCP, V6: to.IP.Addr().Is6(), Local: to.IP})
	switch {
	case err != nil:
		return err
	case !known:
		return h.absent(fd, to)
	}
	if err := h.within(l); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proven[to.IP] != l.Cookie {
		h.proven[to.IP] = l.Cookie
		return errUnproven
	}
	return nil
}

// find looks up the far end of a socket.
func (h *hostNetwork) find(fd int, to wire.Address) (sock.Info, bool, error) {
	if h.err != nil {
		return sock.Info{}, false, h.err
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return sock.Info{}, false, os.NewSyscallError("getsockname", err)
	}
	return h.diag.Find(sock.Endpoints{Network: to.Network, V6: sock.IsIPv6(fd), Local: to.IP, Remote: sock.Address(to.Network, local).IP})
}

// absent is the error where no socket was found: nobody is there, or the kernel
// does not know of our own either.
func (h *hostNetwork) absent(fd int, to wire.Address) error {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	_, known, err := h.diag.Find(sock.Endpoints{Network: to.Network, V6: sock.IsIPv6(fd), Local: sock.Address(to.Network, local).IP, Remote: to.IP})
	switch {
	case err != nil:
		return err
	case !known && !sock.IsGone(fd):
		return errUntold
	}
	return unix.ECONNREFUSED
}

// within fails unless a socket is the unit's.
func (h *hostNetwork) within(s sock.Info) error {
	if s.Cgroup == 0 {
		return errUntold
	}
	return h.cgroup.owns(s.Cgroup)
}

// verifyEvery is the time after which sockets that were connected to the app
// are looked at again. What is sent meanwhile to a container that is gone may
// be lost.
const verifyEvery = 10 * time.Millisecond

// VerifyInterval is how long a look at where datagrams go is good for. In the
// host's network they are looked at whenever some have come: who takes the app's
// port is sent no more than what came with the last that were the app's.
func VerifyInterval(source Source) time.Duration {
	if _, ok := source.(*hostNetwork); ok {
		return time.Nanosecond
	}
	return verifyEvery
}
