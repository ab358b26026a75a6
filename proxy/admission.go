package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// errLocal says that the app could only be reached as somebody who is local
// to it. An app may trust who comes from loopback, as PostgreSQL's and Redis'
// images do: that is for who is in the container.
var errLocal = errors.New("the app would take its client for a local one")

// The addresses of a client that has none to show, where the container has
// none of its own either. Podman gives the first to the host (podman-run(1),
// host.containers.internal), the second is one of nobody's (RFC 4193).
var standIn = map[bool]netip.Addr{ //nolint:gochecknoglobals // constants
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

// sources are the addresses from which to connect to loopback, the best first.
func (a *admission) sources(to Address) ([]netip.AddrPort, error) {
	v4 := to.IP.Addr().Is4()
	for _, own := range a.own {
		if own.Is4() == v4 {
			return []netip.AddrPort{netip.AddrPortFrom(own, 0)}, nil
		}
	}
	if err := a.foreign(v4); err != nil {
		return nil, fmt.Errorf("%w: %w", errLocal, err)
	}
	return []netip.AddrPort{netip.AddrPortFrom(standIn[v4], 0)}, nil
}
