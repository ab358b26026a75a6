package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Network is the kind of an address, as package net names it.
type Network string

// The networks that zerolet-proxy serves.
const (
	TCP  Network = "tcp"
	UDP  Network = "udp"
	Unix Network = "unix" // stream sockets
)

// Address is the address of a socket. Addresses can be compared.
type Address struct {
	Network Network
	IP      netip.AddrPort // of TCP and UDP
	// Device, if not empty, is the interface of a stand-in on which alone it
	// listens there, with TCP.
	Device string
	Path   string // of Unix; empty for a socket without a name
}

// TCPAddress is an address of TCP.
func TCPAddress(a netip.AddrPort) Address { return Address{Network: TCP, IP: a} }

// StandInAddress is the port of a stand-in on one of its interfaces.
func StandInAddress(device string, port uint16) Address {
	return Address{Network: TCP, IP: netip.AddrPortFrom(netip.IPv6Unspecified(), port), Device: device}
}

// ParseAddress reads ADDRESS:PORT, which is TCP, udp:ADDRESS:PORT, unix:PATH or
// network:DEVICE:PORT.
func ParseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return Address{}, fmt.Errorf("want unix:/PATH, not %q", s)
		}
		return Address{Network: Unix, Path: path}, nil
	}
	if rest, ok := strings.CutPrefix(s, "network:"); ok {
		return parseStandIn(rest)
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

// parseStandIn reads DEVICE:PORT. No interface has a colon in its name.
func parseStandIn(s string) (Address, error) {
	device, text, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 || device == "" {
		return Address{}, fmt.Errorf("want network:DEVICE:PORT, not %q", s)
	}
	return StandInAddress(device, uint16(port)), nil
}

// String is what [ParseAddress] reads.
func (a Address) String() string {
	switch {
	case a.Device != "":
		return fmt.Sprintf("network:%s:%d", a.Device, a.IP.Port())
	case a.Network == Unix:
		return "unix:" + a.Path
	case a.Network == UDP:
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

// Forward says where the connections of one listening socket go.
type Forward struct {
	// Listen is the local address of the socket, as [Address.ListenKey] writes it.
	Listen Address
	// Target is the address of the app.
	Target Address
}

// ParseForward reads LISTEN=TARGET.
func ParseForward(s string) (Forward, error) {
	left, right, ok := strings.Cut(s, "=")
	if !ok {
		return Forward{}, errors.New("want LISTEN=TARGET")
	}
	listen, err := ParseAddress(left)
	if err != nil {
		return Forward{}, err
	}
	target, err := ParseAddress(right)
	if err != nil {
		return Forward{}, err
	}
	if target.IP.IsValid() && target.IP.Addr().IsUnspecified() || target.Device != "" {
		return Forward{}, fmt.Errorf("%s is no address to connect to", right)
	}
	if (listen.Network == UDP) != (target.Network == UDP) {
		return Forward{}, fmt.Errorf("%s leads from datagrams to a stream, or the other way round", s)
	}
	return Forward{Listen: listen.ListenKey(), Target: target}, nil
}

// String is what [ParseForward] reads.
func (f Forward) String() string { return f.Listen.String() + "=" + f.Target.String() }
