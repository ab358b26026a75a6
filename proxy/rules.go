package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// An app that listens on loopback answers from there, and nothing legitimate
// leaves a machine from loopback. So whatever a container sends from it can be
// delivered inside the container, to a socket with any address (IP_TRANSPARENT,
// ip(7)): the rule below is asked after the table "local" and before "main".
// What the container sends from elsewhere goes its way as before.
//
// With UDP an app that listens everywhere has no address yet when it answers: a
// route gives it that of loopback. So its port has a rule, and in its table each
// client has a route, as long as it has a session.
const (
	rulePriority  = 31000
	loopbackTable = 31340 // takes every address for a local one
	clientTable   = 31341 // takes clients' addresses for local ones
)

// The loopback interface has this number in each network namespace
// (LOOPBACK_IFINDEX in include/net/flow.h).
const loopback = 1

// ports are the first and the last of a row.
type ports struct{ first, last uint16 }

// admit has what the app answers from loopback delivered in this network
// namespace, whoever it is for, in one address family, and sees to its UDP
// ports. To do it twice is no error.
func admit(family byte, udp []ports) error {
	r, err := openRoutes()
	if err != nil {
		return err
	}
	defer r.close()
	from := netip.PrefixFrom(netip.IPv6Loopback(), 128)
	if family == unix.AF_INET {
		from = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	}
	if err := r.addRule(family, fromPrefix(from), loopbackTable); err != nil {
		return fmt.Errorf("a routing rule: %w", err)
	}
	if err := r.create(unix.RTM_NEWROUTE, local(family, 0, loopbackTable)); err != nil {
		return fmt.Errorf("a route: %w", err)
	}
	// Before there is a client: to an app that answers one and finds no way,
	// sending has failed.
	for _, p := range udp {
		if err := r.addRule(family, fromPorts(p), clientTable); err != nil {
			return fmt.Errorf("a routing rule: %w", err)
		}
	}
	return nil
}

// route has what the app's UDP ports answer a client delivered here. It fails
// with EEXIST if that is so already, and with EADDRNOTAVAIL if the address means
// something here.
func route(client netip.Addr) error {
	if !isForeign(client) {
		return unix.EADDRNOTAVAIL
	}
	return changeRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, client)
}

// isForeign reports whether an address is neither one of this namespace's, which
// is found before any rule is asked, nor one for broadcasts: who is bound to such
// a one sends from the kernel's choice, and getsockname(2) does not tell
// (__inet_bind() in net/ipv4/af_inet.c, __ip4_datagram_connect() in
// net/ipv4/datagram.c). To connect to one is refused (ip(7), EACCES), and who
// connects to an address of its own has the same.
func isForeign(client netip.Addr) bool {
	own, err := addressFor(client)
	if err != nil {
		return !errors.Is(err, unix.EACCES) // there may be no way out
	}
	return own != client
}

// unroute ends it.
func unroute(client netip.Addr) error { return changeRoute(unix.RTM_DELROUTE, 0, client) }

func changeRoute(kind, flags uint16, client netip.Addr) error {
	r, err := openRoutes()
	if err != nil {
		return err
	}
	defer r.close()
	family := byte(unix.AF_INET)
	if client.Is6() {
		family = unix.AF_INET6
	}
	return r.do(kind, flags,
		local(family, byte(client.BitLen()), clientTable).
			add(unix.RTA_DST, client.AsSlice()).
			add(unix.RTA_PREFSRC, loopbackOf(client.Is4()).AsSlice()))
}

// routes speaks rtnetlink(7).
type routes struct {
	fd  int
	seq uint32
}

func openRoutes() (*routes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	return &routes{fd: fd}, os.NewSyscallError("socket", err)
}

func (r *routes) close() { unix.Close(r.fd) }

// attributes are a sequence of struct rtattr, each filled up to 4 bytes.
type attributes []byte

func (a attributes) add(kind uint16, value []byte) attributes {
	a = binary.NativeEndian.AppendUint16(a, uint16(unix.SizeofRtAttr+len(value)))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	for len(a)%unix.RTA_ALIGNTO != 0 {
		a = append(a, 0)
	}
	return a
}

func (a attributes) addUint32(kind uint16, value uint32) attributes {
	return a.add(kind, binary.NativeEndian.AppendUint32(nil, value))
}

// match is what a rule asks for: the length of the source's prefix, and
// attributes.
type match struct {
	sourceBits byte
	attributes
}

func fromPrefix(p netip.Prefix) match {
	return match{byte(p.Bits()), attributes{}.add(unix.FRA_SRC, p.Addr().AsSlice())}
}

func fromPorts(p ports) match {
	row := binary.NativeEndian.AppendUint16(nil, p.first) // struct fib_rule_port_range
	row = binary.NativeEndian.AppendUint16(row, p.last)
	return match{0, attributes{}.add(unix.FRA_IP_PROTO, []byte{unix.IPPROTO_UDP}).add(unix.FRA_SPORT_RANGE, row)}
}

// addRule sends what the namespace's own processes send ("iif lo",
// ip-rule(8)) and matches to a table.
func (r *routes) addRule(family byte, m match, table uint32) error {
	header := []byte{family, 0, m.sourceBits, 0, 0, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0} // struct fib_rule_hdr
	body := append(attributes(header), m.attributes...).
		add(unix.FRA_IIFNAME, []byte("lo\x00")).
		addUint32(unix.FRA_TABLE, table).
		addUint32(unix.FRA_PRIORITY, rulePriority)
	return r.create(unix.RTM_NEWRULE, body)
}

// local is a route in a table: addresses that begin with so many bits of one are
// this machine's.
func local(family, bits byte, table uint32) attributes {
	// struct rtmsg
	header := []byte{family, bits, 0, 0, 0, unix.RTPROT_STATIC, unix.RT_SCOPE_HOST, unix.RTN_LOCAL, 0, 0, 0, 0}
	return attributes(header).addUint32(unix.RTA_OIF, loopback).addUint32(unix.RTA_TABLE, table)
}

// create adds what is not there yet.
func (r *routes) create(kind uint16, body []byte) error {
	err := r.do(kind, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// do sends a request and reads how it went (netlink(7), NLMSG_ERROR).
func (r *routes) do(kind, flags uint16, body []byte) error {
	r.seq++
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m = binary.NativeEndian.AppendUint32(m, r.seq)
	m = binary.NativeEndian.AppendUint32(m, 0) // to the kernel
	m = append(m, body...)
	if err := unix.Sendto(r.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(r.fd, answer, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("rtnetlink: no answer to the request")
	}
	if errno := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
