package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Network is the kind of an address, as package net names it.
type Network string

// The networks that the proxy serves.
const (
	TCP  Network = "tcp"
	UDP  Network = "udp"
	Unix Network = "unix" // stream sockets
)

// Address is the address of a socket. Addresses can be compared.
type Address struct {
	Network Network
	IP      netip.AddrPort // of TCP and UDP
	Path    string         // of Unix; empty for a socket without a name
}

// TCPAddress is an address of TCP.
func TCPAddress(a netip.AddrPort) Address { return Address{Network: TCP, IP: a} }

// ParseAddress reads ADDRESS:PORT, which is TCP, udp:ADDRESS:PORT or unix:PATH.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, fmt.Errorf("want unix:/PATH, not %q", s)
		}
		return Address{Network: Unix, Path: path}, nil
	}
	text, udp := strings.CutPrefix(s, "udp:")
	ip, err := netip.ParseAddrPort(text)
	if err != nil || ip.Port() == 0 {
		return Address{}, fmt.Errorf("want ADDRESS:PORT, not %q", text)
	}
	if udp {
		return Address{Network: UDP, IP: ip}, nil
	}
	return TCPAddress(ip), nil
}

// String is what [ParseAddress] reads.
func (a Address) String() string {
	switch a.Network {
	case Unix:
		return "unix:" + a.Path
	case UDP:
		return "udp:" + a.IP.String()
	default:
		return a.IP.String()
	}
}

// ListenKey brings the local address of a listening socket to the form in
// which addresses are compared: IPv4-mapped addresses as IPv4, no zone, and
// one wildcard for both families, because systemd turns "ListenStream=80" into
// [::]:80 or, where IPv6 is off, into 0.0.0.0:80 (systemd.socket(5)).
func (a Address) ListenKey() Address {
	if a.Network == Unix {
		return a
	}
	ip := a.IP.Addr().Unmap().WithZone("")
	if ip.IsUnspecified() {
		ip = netip.IPv6Unspecified()
	}
	a.IP = netip.AddrPortFrom(ip, a.IP.Port())
	return a
}

// sockaddr is the address, and the socket for it, as the system calls take them.
func (a Address) sockaddr() (family, kind int, sa unix.Sockaddr) {
	kind = unix.SOCK_STREAM
	if a.Network == UDP {
		kind = unix.SOCK_DGRAM
	}
	ip := a.IP.Addr()
	switch {
	case a.Network == Unix:
		return unix.AF_UNIX, kind, &unix.SockaddrUnix{Name: a.Path}
	case ip.Is4():
		return unix.AF_INET, kind, &unix.SockaddrInet4{Port: int(a.IP.Port()), Addr: ip.As4()}
	default:
		return unix.AF_INET6, kind, &unix.SockaddrInet6{Port: int(a.IP.Port()), Addr: ip.As16()}
	}
}

// address reads what a system call gives. The kind of the socket is not in it.
func address(network Network, sa unix.Sockaddr) Address {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return Address{Network: network, IP: netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))}
	case *unix.SockaddrInet6:
		return Address{Network: network, IP: netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))}
	case *unix.SockaddrUnix:
		return Address{Network: Unix, Path: sa.Name}
	default:
		return Address{}
	}
}

// listeningAddress is the local address of a socket that takes clients.
func listeningAddress(fd int) (Address, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return Address{}, err
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return Address{}, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Address{}, err
	}
	_, local := sa.(*unix.SockaddrUnix)
	switch {
	case kind == unix.SOCK_STREAM && listening != 0:
		return address(TCP, sa), nil
	case kind == unix.SOCK_DGRAM && !local:
		return address(UDP, sa), nil
	}
	return Address{}, errors.New("neither a listening stream socket nor one for UDP")
}
