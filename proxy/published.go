package proxy

import (
	"encoding/binary"
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
	mu   sync.Mutex
	diag int                // a sock_diag(7) socket
	left map[uint16]leaving // what lay in the socket of a port the last time
}

// leaving is what nobody reads of a socket.
type leaving struct{ inode, bytes uint32 }

// newPublished fails if the kernel does not know of a socket that listens, and
// then would not tell of others either (CONFIG_INET_DIAG, CONFIG_INET_UDP_DIAG).
func newPublished(listeners []*listener) (*published, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &published{diag: fd, left: make(map[uint16]leaving)}
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
	_, known, err := p.find(endpoints{l.forward.Listen.Network, isV6(l.fd), address(TCP, sa).IP, netip.AddrPort{}})
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
	s, known, err := p.find(ends)
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

func (p *published) close() { unix.Close(p.diag) }

// endpoints are those of the socket that is looked for.
type endpoints struct {
	network       Network
	v6            bool
	local, remote netip.AddrPort
}

// found is what the kernel tells of a socket.
type found struct {
	state uint8
	uid   uint32
	leaving
}

// find looks up the socket with the local and remote address, or the one that
// takes what is sent to the local address (inet_diag_find_one_icsk() in
// net/ipv4/inet_diag.c, udp_dump_one() in net/ipv4/udp_diag.c).
func (p *published) find(e endpoints) (s found, known bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := unix.Sendto(p.diag, e.request(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return found{}, false, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 1024)
	n, _, err := unix.Recvfrom(p.diag, answer, 0)
	if err != nil {
		return found{}, false, os.NewSyscallError("recvfrom", err)
	}
	return parseDiag(answer[:n])
}

// request is a struct nlmsghdr and a struct inet_diag_req_v2.
func (e endpoints) request() []byte {
	const size, exactCookie = unix.SizeofNlMsghdr + 56, 0xffffffff // INET_DIAG_NOCOOKIE
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...)
	family, protocol := byte(unix.AF_INET), byte(unix.IPPROTO_TCP)
	if e.v6 {
		family = unix.AF_INET6
	}
	source, destination := e.local, e.remote
	if e.network == UDP { // "swapped for historical reasons", as udp_dump_one() says
		protocol, source, destination = unix.IPPROTO_UDP, e.remote, e.local
	}
	b = append(b, family, protocol, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff) // all states
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, destination.Port())
	for _, a := range []netip.AddrPort{source, destination} {
		var ip [16]byte
		if a.Addr().Is4() && !e.v6 {
			copy(ip[:], a.Addr().AsSlice())
		} else if a.IsValid() {
			ip = a.Addr().As16()
		}
		b = append(b, ip[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0) // any interface
	b = binary.NativeEndian.AppendUint32(b, exactCookie)
	return binary.NativeEndian.AppendUint32(b, exactCookie)
}

// parseDiag reads a struct inet_diag_msg, or the error in its place.
func parseDiag(b []byte) (s found, known bool, err error) {
	const header, rqueue, uid, inode, size = unix.SizeofNlMsghdr, 56, 64, 68, 72
	if len(b) < header+4 {
		return found{}, false, fmt.Errorf("sock_diag: %d bytes", len(b))
	}
	msg, ints := b[header:], binary.NativeEndian
	if ints.Uint16(b[4:]) == unix.NLMSG_ERROR {
		errno := unix.Errno(-int32(ints.Uint32(msg)))
		if errno == unix.ENOENT {
			return found{}, false, nil
		}
		return found{}, false, os.NewSyscallError("sock_diag", errno)
	}
	if len(msg) < size {
		return found{}, false, fmt.Errorf("sock_diag: %d bytes", len(b))
	}
	return found{
		state: msg[1], uid: ints.Uint32(msg[uid:]),
		leaving: leaving{inode: ints.Uint32(msg[inode:]), bytes: ints.Uint32(msg[rqueue:])},
	}, true, nil
}
