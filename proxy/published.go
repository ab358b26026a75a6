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
type published struct {
	ownNamespace
	mu   sync.Mutex
	diag int // a sock_diag(7) socket
}

// newPublished fails if the kernel does not know of a socket that listens, and
// then would not tell of others either (CONFIG_INET_DIAG).
func newPublished(listeners []*listener) (*published, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	p := &published{diag: fd}
	for _, l := range listeners {
		if l.forward.Listen.Network != TCP {
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
	_, v6 := sa.(*unix.SockaddrInet6)
	_, known, err := p.state(v6, address(TCP, sa).IP, netip.AddrPort{})
	if err == nil && !known {
		err = errors.New("the kernel does not tell of sockets")
	}
	return err
}

// verify is called with a connected socket.
func (p *published) verify(fd int) error {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	_, v6 := local.(*unix.SockaddrInet6)
	state, known, err := p.state(v6, address(TCP, remote).IP, address(TCP, local).IP)
	if err == nil && known && state != unix.BPF_TCP_LISTEN && state != unix.BPF_TCP_TIME_WAIT {
		err = errNotContainer
	}
	return err
}

func (p *published) close() { unix.Close(p.diag) }

// state looks up the socket with the local and remote address, or the one that
// listens on the local address (inet_diag_find_one_icsk() in
// net/ipv4/inet_diag.c).
func (p *published) state(v6 bool, local, remote netip.AddrPort) (state uint8, known bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := unix.Sendto(p.diag, diagRequest(v6, local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, false, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 1024)
	n, _, err := unix.Recvfrom(p.diag, answer, 0)
	if err != nil {
		return 0, false, os.NewSyscallError("recvfrom", err)
	}
	return parseDiag(answer[:n])
}

// diagRequest is a struct nlmsghdr and a struct inet_diag_req_v2.
func diagRequest(v6 bool, local, remote netip.AddrPort) []byte {
	const size, exactCookie = unix.SizeofNlMsghdr + 56, 0xffffffff // INET_DIAG_NOCOOKIE
	b := make([]byte, 0, size)
	b = binary.NativeEndian.AppendUint32(b, size)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...)
	family := byte(unix.AF_INET)
	if v6 {
		family = unix.AF_INET6
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff) // all states
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	for _, a := range []netip.AddrPort{local, remote} {
		var ip [16]byte
		if a.Addr().Is4() && !v6 {
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
func parseDiag(b []byte) (state uint8, known bool, err error) {
	const header = unix.SizeofNlMsghdr
	if len(b) < header+4 {
		return 0, false, fmt.Errorf("sock_diag: %d bytes", len(b))
	}
	if binary.NativeEndian.Uint16(b[4:]) != unix.NLMSG_ERROR {
		return b[header+1], true, nil
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(b[header:])))
	if errno == unix.ENOENT {
		return 0, false, nil
	}
	return 0, false, os.NewSyscallError("sock_diag", errno)
}
