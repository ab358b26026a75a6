package proxy

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// datagram is what a client sent, and where the answer comes from and goes to.
type datagram struct {
	data []byte
	from origin
	to   sock.Sockaddr
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

func (o *origin) String() string { return wire.Address{Network: wire.UDP, IP: o.client}.String() }

// passAddress has the kernel tell with each datagram at which address it
// arrived: a wildcard socket does not know otherwise (ip(7), IP_PKTINFO;
// ipv6(7)). An IPv6 socket tells of IPv4, too, as of mapped addresses.
func passAddress(fd int) error {
	if sock.IsIPv6(fd) {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
}

// inbox is what one datagram after the other is received into.
type inbox struct {
	from    sock.Sockaddr
	data    carry.Buffer
	control [64]byte
}

// receive reads one datagram.
func (f *front) receive(in *inbox, flags int) (datagram, error) {
	m := sock.Message{Name: in.from[:], Data: in.data[:], Control: in.control[:]}
	if err := m.Receive(f.FD, flags); err != nil {
		return datagram{}, err
	}
	d := datagram{data: m.Data, from: origin{front: f}, to: in.from}
	d.from.parseClient(&d.to)
	d.from.parseAsked(m.Control)
	return d, nil
}

func (o *origin) parseClient(sa *sock.Sockaddr) {
	o.client, o.scope = sa.Parse()
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
	m := sock.Message{Name: s.to[:], Data: b, Control: s.source}
	err := m.Send(s.front.FD)
	if err == unix.EINVAL && s.source != nil {
		s.source = nil // a broadcast address is nobody's to answer from
		m.Control = nil
		err = m.Send(s.front.FD)
	}
	return err
}

// discard drops the first datagram of the queue and reports whether there was
// one.
func (f *front) discard() bool {
	_, err := sock.Read(f.FD, make([]byte, 1)) // the rest of it goes too (udp(7))
	return err != unix.EAGAIN
}
