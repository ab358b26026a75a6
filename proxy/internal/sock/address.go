package sock

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Arguments is an address, and the socket for it, as the system calls take them.
func Arguments(a wire.Address) (family, kind int, sa unix.Sockaddr) {
	kind = unix.SOCK_STREAM
	if a.Network == wire.UDP {
		kind = unix.SOCK_DGRAM
	}
	ip := a.IP.Addr()
	switch {
	case a.Network == wire.Unix:
		return unix.AF_UNIX, kind, &unix.SockaddrUnix{Name: a.Path}
	case ip.Is4():
		return unix.AF_INET, kind, &unix.SockaddrInet4{Port: int(a.IP.Port()), Addr: ip.As4()}
	default:
		return unix.AF_INET6, kind, &unix.SockaddrInet6{Port: int(a.IP.Port()), Addr: ip.As16()}
	}
}

// Address reads what a system call gives. The kind of the socket is not in it.
func Address(network wire.Network, sa unix.Sockaddr) wire.Address {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return wire.Address{Network: network, IP: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}
	case *unix.SockaddrInet6:
		return wire.Address{Network: network, IP: netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))}
	case *unix.SockaddrUnix:
		return wire.Address{Network: wire.Unix, Path: sa.Name}
	default:
		return wire.Address{}
	}
}

// ListeningAddress is the local address of a socket that takes clients.
func ListeningAddress(fd int) (wire.Address, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return wire.Address{}, err
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return wire.Address{}, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return wire.Address{}, err
	}
	_, local := sa.(*unix.SockaddrUnix)
	switch {
	case kind == unix.SOCK_STREAM && listening != 0:
		return Address(wire.TCP, sa), nil
	case kind == unix.SOCK_DGRAM && !local:
		return Address(wire.UDP, sa), nil
	}
	return wire.Address{}, errors.New("neither a listening stream socket nor one for UDP")
}

// IsIPv6 reports whether a socket is one of IPv6, which may have IPv4, too.
func IsIPv6(fd int) bool {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && family == unix.AF_INET6
}

// PeerName is who a client is. That of a unix socket has no address, but the
// kernel knows the process that connected (SO_PEERCRED, unix(7)).
func PeerName(client *Socket, peer wire.Address) string {
	if peer.Network != wire.Unix {
		return peer.String()
	}
	cred, err := unix.GetsockoptUcred(client.FD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer.String()
	}
	return fmt.Sprintf("pid %d of uid %d", cred.Pid, cred.Uid)
}
