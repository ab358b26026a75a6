package proxy

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// datagram is what a client sent, and where the answer comes from and goes to.
type datagram struct {
	data []byte
	from origin
	to   unix.Sockaddr
}

// origin tells clients apart. Who asks at two of the machine's addresses is
// two of them, since answers come from the address that was asked.
type origin struct {
	front    *front
	client   netip.AddrPort
	scope    uint32     // of a link-local address
	asked    netip.Addr // not valid where the kernel did not tell
	askedDev uint32     // the interface, for a link-local address
}

func (d *datagram) client() string { return address(UDP, d.to).String() }

// passAddress has the kernel tell with each datagram at which address it
// arrived: a wildcard socket does not know otherwise (ip(7), IP_PKTINFO;
// ipv6(7)). An IPv6 socket tells of IPv4, too, as of mapped addresses.
func passAddress(fd int) error {
	if isV6(fd) {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

func isV6(fd int) bool {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && family == unix.AF_INET6
}

// receive reads one datagram into buf.
func (f *front) receive(buf *buffer, flags int) (datagram, error) {
	var oob [64]byte
	n, oobn, _, from, err := unix.Recvmsg(f.fd, buf[:], oob[:], flags)
	if err != nil {
		return datagram{}, err
	}
	d := datagram{data: buf[:n], to: from, from: origin{front: f, client: address(UDP, from).IP}}
	if sa, ok := from.(*unix.SockaddrInet6); ok {
		d.from.scope = sa.ZoneId
	}
	d.from.parseAsked(oob[:oobn])
	return d, nil
}

// parseAsked reads a struct in_pktinfo or a struct in6_pktinfo.
func (o *origin) parseAsked(oob []byte) {
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return
		}
		oob = rest
		switch {
		case header.Level == unix.IPPROTO_IP && header.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// First comes the interface, then the address to answer from, which
			// is not there for what had come before the option was set, then
			// the address that the datagram was sent to.
			o.asked = netip.AddrFrom4([4]byte(data[4:8]))
			if o.asked.IsUnspecified() {
				o.asked = netip.AddrFrom4([4]byte(data[8:12]))
			}
		case header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			o.asked = netip.AddrFrom16([16]byte(data[:16]))
			if o.asked.IsLinkLocalUnicast() {
				o.askedDev = binary.NativeEndian.Uint32(data[16:])
			}
		}
	}
}

// source is the control message that sends from the address that was asked.
// Which way the answer takes is left to the routes.
func (d *datagram) source() []byte {
	asked := d.from.asked
	switch {
	case !asked.IsValid() || asked.Unmap().IsMulticast():
		return nil
	case asked.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: asked.As4()})
	default:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: asked.As16(), Ifindex: d.from.askedDev})
	}
}

// reply sends an answer of the app's.
func (s *session) reply(b []byte) error {
	_, err := unix.SendmsgN(s.front.fd, b, s.source, s.to, 0)
	if err == unix.EINVAL && s.source != nil {
		s.source = nil // a broadcast address is nobody's to answer from
		_, err = unix.SendmsgN(s.front.fd, b, nil, s.to, 0)
	}
	return err
}

// discard drops the first datagram of the queue and tells whether there was
// one.
func (f *front) discard() bool {
	_, err := read(f.fd, make([]byte, 1)) // the rest of it goes too (udp(7))
	return err != unix.EAGAIN
}

// sendDatagram sends on a connected socket. That nobody listens there is known
// when send returns if the other end is on this machine: the kernel delivers
// at once, and the ICMP message that comes of it too. So it costs no datagram
// to ask, or the one that meets an error that came late.
func (s *socket) sendDatagram(b []byte) error {
	if err := unix.Send(s.fd, b, 0); err != nil {
		return err
	}
	return s.pendingError()
}

// pendingError is the error that the next call on the socket would get.
func (s *socket) pendingError() error {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}
