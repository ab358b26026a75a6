package reach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// errLocal says that the app could only be reached as somebody who is local
// to it. An app may trust who comes from loopback, as PostgreSQL's and Redis'
// images do: that is for who is in the container.
var errLocal = errors.New("the app would take its client for a local one")

// The addresses of a client that has none to show, where the container has
// none of its own either. Podman gives the first to the host (podman-run(1),
// host.containers.internal), the second is one of nobody's (RFC 4193).
var standIn = map[bool]netip.Addr{ // constants
	true:  netip.AddrFrom4([4]byte{169, 254, 1, 2}),
	false: netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x7a, 15: 2}),
}

// admission is how the proxy's clients can appear in a container's network.
type admission struct {
	err4, err6 error        // why they cannot have any address they like
	own        []netip.Addr // the container's, but for loopback
}

// admissionSize is how long an admission can be: two errnos and the addresses.
const admissionSize = 2*4 + most*16

func parseAdmission(body []byte) *admission {
	a := &admission{err4: errLocal, err6: errLocal}
	if len(body) < 8 {
		return a
	}
	a.err4, a.err6 = decodeErrno(body), decodeErrno(body[4:])
	for ip := range slices.Chunk(body[8:], 16) {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			a.own = append(a.own, addr.Unmap())
		}
	}
	return a
}

func decodeErrno(b []byte) error {
	if errno := unix.Errno(binary.NativeEndian.Uint32(b)); errno != 0 {
		return errno
	}
	return nil
}

// foreign is why clients cannot have any address of a family; nil if they can.
func (a *admission) foreign(v4 bool) error {
	if v4 {
		return a.err4
	}
	return a.err6
}

// sources are the addresses from which to connect to loopback for a client, the
// best first.
func (a *admission) sources(to wire.Address, client netip.AddrPort) (all []netip.AddrPort, err error) {
	v4 := to.IP.Addr().Is4()
	foreign := a.foreign(v4)
	if foreign == nil && shows(to, client.Addr()) {
		all = append(all, client, netip.AddrPortFrom(client.Addr(), 0))
	}
	// An app that listens everywhere answers the container's own address from
	// there, and not from loopback. For TCP that is settled by the connection.
	own := slices.IndexFunc(a.own, func(ip netip.Addr) bool { return ip.Is4() == v4 })
	switch {
	case own >= 0 && to.Network == wire.TCP:
		return append(all, netip.AddrPortFrom(a.own[own], 0)), nil
	case foreign == nil:
		return append(all, netip.AddrPortFrom(standIn[v4], 0)), nil
	}
	return nil, fmt.Errorf("%w: %w", errLocal, foreign)
}

// shows reports whether a client can have its own address in there. Loopback
// means something else there, and so does what is known on one link only.
func shows(to wire.Address, client netip.Addr) bool {
	return client.IsGlobalUnicast() && client.Is4() == to.IP.Addr().Is4()
}

// hides is why a client has not its own address.
func (a *admission) hides(to wire.Address, client netip.Addr, failed error) error {
	switch v4 := client.Is4(); {
	case !to.IP.Addr().IsLoopback():
		return fmt.Errorf("it listens on %s alone", to.IP.Addr())
	case v4 != to.IP.Addr().Is4():
		return fmt.Errorf("it does not listen on %s", loopbackOf(v4))
	case a.foreign(v4) != nil:
		return a.foreign(v4)
	case failed != nil && !errors.Is(failed, errLocal):
		return failed
	}
	return errors.New("that means something else there")
}

func loopbackOf(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// rows are ports in order, those next to each other as one row.
func rows(all []uint16) (rows []ports) {
	slices.Sort(all)
	for _, port := range all {
		if last := len(rows) - 1; last >= 0 && int(port) <= int(rows[last].last)+1 {
			rows[last].last = port
		} else {
			rows = append(rows, ports{port, port})
		}
	}
	return rows
}

func appendPorts(b []byte, all []ports) []byte {
	for _, p := range all {
		b = binary.BigEndian.AppendUint16(b, p.first)
		b = binary.BigEndian.AppendUint16(b, p.last)
	}
	return b
}

func parsePorts(b []byte) (all []ports) {
	for ; len(b) >= 4; b = b[4:] {
		all = append(all, ports{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])})
	}
	return all
}
