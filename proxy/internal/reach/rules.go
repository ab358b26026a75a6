package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// An app that listens on loopback answers from there, and nothing legitimate
// leaves a machine from loopback. So whatever a container sends from it can be
// delivered inside the container, to a socket with any address (IP_TRANSPARENT,
// ip(7)): the rule below is asked after the table "local" and before all others.
// What the container sends from elsewhere goes its way as before.
//
// With UDP an app that listens everywhere has no address yet when it answers: a
// route gives it that of loopback. So its port has a rule, and in its table each
// client has a route, as long as it has a session.
const (
	loopbackTable = 31340 // takes every address for a local one
	clientTables  = 31341 // take clients' addresses for local ones
)

// clientTable is that of an app's UDP ports. Several apps may share a network, each
// with a proxy and sessions of its own, but no two of them a port.
func clientTable(udp []ports) uint32 {
	if len(udp) == 0 {
		return clientTables
	}
	return clientTables | uint32(udp[0].first)<<16
}

// isClientTable reports whether a table is that of any app.
func isClientTable(table uint32) bool { return table&0xffff == clientTables }

// The loopback interface has this number in each network namespace
// (LOOPBACK_IFINDEX in include/net/flow.h).
const loopback = 1

// ports are the first and the last of a row.
type ports struct{ first, last uint16 }

// admit has what the app answers from loopback delivered in this network
// namespace, whoever it is for, in one address family, and sees to its UDP
// ports, before there is a client: to an app that answers one and finds no way,
// sending has failed. To do it twice is no error.
func admit(family byte, udp []ports) error {
	r, err := openRoutes()
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.create(unix.RTM_NEWROUTE, local(family, 0, loopbackTable)); err != nil {
		return fmt.Errorf("a route: %w", err)
	}
	rules := rulesFor(family, udp)
	if areForemost(family, clientTable(udp), len(rules)) {
		return nil
	}
	for _, rule := range rules {
		_ = r.do(unix.RTM_DELRULE, 0, rule) // it is where it does nothing, if it is there
		if err := r.create(unix.RTM_NEWRULE, rule); err != nil {
			return fmt.Errorf("a routing rule: %w", err)
		}
	}
	return nil
}

// rulesFor are those of a family.
func rulesFor(family byte, udp []ports) []attributes {
	from := netip.PrefixFrom(netip.IPv6Loopback(), 128)
	if family == unix.AF_INET {
		from = netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
	}
	rules := []attributes{newRule(family, fromPrefix(from), loopbackTable)}
	for _, p := range udp {
		rules = append(rules, newRule(family, fromPorts(p), clientTable(udp)))
	}
	return rules
}

// areForemost reports whether so many rules are there, and no other comes before
// them: one that a VPN has made in the container leads all answers out of it.
// Those of priority 0 cannot be preceded; that for the table "local" is one. The
// rules of other apps are in nobody's way.
func areForemost(family byte, clients uint32, n int) bool {
	dump, _ := syscall.NetlinkRIB(unix.RTM_GETRULE, int(family))
	messages, _ := syscall.ParseNetlinkMessage(dump)
	for _, m := range messages {
		priority, table := ruleOf(m.Data)
		switch {
		case table == loopbackTable || table == clients:
			n--
		case isClientTable(table):
		case priority != 0:
			return n <= 0
		}
	}
	return n <= 0
}

// ruleOf reads struct fib_rule_hdr and the attributes behind it. One that is not
// there is 0.
func ruleOf(message []byte) (priority, table uint32) {
	const header = 12
	for rest := message[min(header, len(message)):]; len(rest) >= unix.SizeofRtAttr+4; {
		size, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		switch value := binary.NativeEndian.Uint32(rest[unix.SizeofRtAttr:]); kind {
		case unix.FRA_PRIORITY:
			priority = value
		case unix.FRA_TABLE:
			table = value
		}
		size = (max(size, unix.SizeofRtAttr) + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1)
		rest = rest[min(size, len(rest)):]
	}
	return priority, table
}

// route has what the app's UDP ports answer a client delivered here. It fails
// with EEXIST if that is so already, and with EADDRNOTAVAIL if the address means
// something here.
func route(client netip.Addr, table uint32) error {
	if !isForeign(client) {
		return unix.EADDRNOTAVAIL
	}
	return changeRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, client, table)
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
func unroute(client netip.Addr, table uint32) error {
	return changeRoute(unix.RTM_DELROUTE, 0, client, table)
}

func changeRoute(kind, flags uint16, client netip.Addr, table uint32) error {
	r, err := openRoutes()
	if err != nil {
		return err
	}
	defer r.close()
	return r.do(kind, flags,
		local(familyOf(client), byte(client.BitLen()), table).
			add(unix.RTA_DST, client.AsSlice()).
			add(unix.RTA_PREFSRC, loopbackOf(client.Is4()).AsSlice()))
}

func familyOf(ip netip.Addr) byte {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
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

// newRule sends what the namespace's own processes send ("iif lo", ip-rule(8))
// and matches to a table. Without a priority it comes before all other rules but
// those of priority 0 (fib_default_rule_pref() in net/core/fib_rules.c).
func newRule(family byte, m match, table uint32) attributes {
	header := []byte{family, 0, m.sourceBits, 0, 0, 0, 0, unix.FR_ACT_TO_TBL, 0, 0, 0, 0} // struct fib_rule_hdr
	return append(attributes(header), m.attributes...).
		add(unix.FRA_IIFNAME, []byte("lo\x00")).
		addUint32(unix.FRA_TABLE, table)
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
