package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// errNotContainer says that a connection to a published port ended in a
// process of this network namespace.
var errNotContainer = errors.New("a process on the host listens there, not the container")

// published makes sockets for the ports that Podman publishes for a rootful
// container. Such a port is a NAT rule, and while there is none, as long as
// the container is starting or has failed, a connect reaches whoever listens
// on the port in the host's namespace: Podman itself, which keeps the port so
// that nobody else takes it and never accepts (containers.conf(5),
// enable_port_reservation), or any local user who was there first. So the
// kernel is asked about the other end of each new connection. If that is a
// socket of this namespace, NAT did not take the connection to the container.
//
// A datagram needs no listener to arrive, so for UDP the kernel is asked which
// socket of this namespace would get it if it were not for NAT. None, or one of
// root's, is well: Podman keeps the port for as long as the container runs.
// Anybody else's is not. If it is another socket than the last time, or none any
// more, it is another container, which the flows through NAT to the old one
// never reach; and if more lies in it than the last time, NAT has missed what
// was sent in between.
type published struct {
	ownNamespace
	diag *diag
	mu   sync.Mutex
	left map[uint16]leaving // what lay in the socket of a port the last time
}

// leaving is what nobody reads of a socket.
type leaving struct{ inode, bytes uint32 }

// newPublished fails if the kernel does not know of a socket that listens, and
// then would not tell of others either (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG).
func newPublished(listeners []*listener) (*published, error) {
	d, err := newDiag()
	if err != nil {
		return nil, err
	}
	p := &published{diag: d, left: make(map[uint16]leaving)}
	for _, l := range listeners {
		if l.forward.Listen.Network == Unix {
			continue
		}
		if err := p.knows(l); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *published) knows(l *listener) error {
	sa, err := unix.Getsockname(l.fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	_, known, err := p.diag.find(endpoints{l.forward.Listen.Network, isV6(l.fd), address(TCP, sa).IP, netip.AddrPort{}})
	if err == nil && !known {
		err = fmt.Errorf("the kernel does not tell of %s sockets", l.forward.Listen.Network)
	}
	return err
}

// verify is called with a connected socket, and for UDP again and again when
// something was sent.
func (p *published) verify(fd int) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	ends := endpoints{TCP, isV6(fd), address(TCP, remote).IP, address(TCP, local).IP}
	if protocol == unix.IPPROTO_UDP {
		ends.network = UDP
	}
	s, known, err := p.diag.find(ends)
	switch {
	case err != nil:
		return err
	case ends.network == UDP && (known && s.uid != 0 || p.changed(ends.local.Port(), s.leaving)),
		ends.network == TCP && known && s.state != unix.BPF_TCP_LISTEN && s.state != unix.BPF_TCP_TIME_WAIT:
		return errNotContainer
	}
	return nil
}

// changed tells whether the port has another socket than the last time, or more
// lies in it. now is zero if there is none.
func (p *published) changed(port uint16, now leaving) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.left[port]
	p.left[port] = now
	return last.inode != 0 && (now.inode != last.inode || now.bytes > last.bytes)
}

func (p *published) close() { p.diag.close() }
