package reach

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Sources has no client from somewhere else come from loopback to an app that is
// in the host's network: it comes from the host's address that faces it. With
// UDP that is of no use, as in a container's network: an app that listens
// everywhere answers such an address from there, and not from loopback.
func (ownNamespace) Sources(to wire.Address, client netip.AddrPort) ([]netip.AddrPort, error) {
	if to.Network != wire.TCP || !to.IP.Addr().IsLoopback() || !client.IsValid() || client.Addr().IsLoopback() {
		return anySource, nil
	}
	facing := client.Addr()
	if facing.Is4() != to.IP.Addr().Is4() {
		facing = anybody(to.IP.Addr().Is4())
	}
	if own, err := addressFor(facing); err == nil && !own.IsLoopback() {
		return []netip.AddrPort{netip.AddrPortFrom(own, 0)}, nil
	}
	return anySource, nil
}

// anybody is somebody in the world, of those that are for examples (RFC 5737,
// RFC 3849).
func anybody(v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 15: 1})
}

// addressFor is the address here that another machine would see. To connect a
// socket for datagrams sends nothing (udp(7)).
func addressFor(remote netip.Addr) (netip.Addr, error) {
	family, kind, sa := sock.Arguments(wire.Address{Network: wire.UDP, IP: netip.AddrPortFrom(remote, 1)})
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sa); err != nil {
		return netip.Addr{}, os.NewSyscallError("connect", err)
	}
	local, err := unix.Getsockname(fd)
	return sock.Address(wire.UDP, local).IP.Addr(), os.NewSyscallError("getsockname", err)
}
