package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

//go:embed outside.sh
var outsideScript string

// outsideNamespace is where ip-netns(8) keeps it.
const outsideNamespace = "/run/netns/outside"

// Outside are the addresses of clients around a machine with [Options.Outside]: neighbours first, then those
// behind a router, of IPv4 and of IPv6.
func Outside() []netip.Addr {
	var all []netip.Addr
	for _, prefix := range []string{"192.0.2.", "198.51.100.", "2001:db8::", "2001:db8:1::"} {
		for n := 11; n <= 14; n++ {
			all = append(all, netip.MustParseAddr(fmt.Sprint(prefix, n)))
		}
	}
	return all
}

// Uplink is the machine's own address for clients of a family.
func Uplink(client netip.Addr) netip.Addr {
	if client.Is4() {
		return netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	return netip.MustParseAddr("2001:db8::1")
}

// connectOutside makes the network of clients. It ends with the machine.
func (m *Machine) connectOutside(ctx context.Context) error {
	if _, err := m.Root().runWith(ctx, []byte(outsideScript), "sh"); err != nil {
		return fmt.Errorf("outside: %w", err)
	}
	return nil
}

// DialFrom connects to a port of the machine as a client with the address, which is one of [Outside] or one of
// the machine's own. Port 0 is any.
func (m *Machine) DialFrom(ctx context.Context, network string, client netip.AddrPort, port uint16) (conn net.Conn, err error) {
	enter, to := m.Network, client.Addr()
	if slices.Contains(Outside(), to) {
		enter, to = m.outside, Uplink(to)
	}
	err = enter(func() (err error) {
		conn, err = dialerFrom(network, client).DialContext(ctx, network, netip.AddrPortFrom(to, port).String())
		return err
	})
	return conn, err
}

// dialerFrom lets several connections of a client have one port, if they lead to different ones.
func dialerFrom(network string, client netip.AddrPort) *net.Dialer {
	if network == "udp" {
		return &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(client)}
	}
	return &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(client), Control: func(_, _ string, c syscall.RawConn) (err error) {
		controlErr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(controlErr, err)
	}}
}

// outside is Network for the network of clients.
func (m *Machine) outside(f func() error) error { return inNetwork(m.Host(outsideNamespace), f) }

// CommandOutside prepares a command of root's that runs in the network of clients, with the machine's files.
func (m *Machine) CommandOutside(ctx context.Context, args ...string) *exec.Cmd {
	return m.Root().Command(ctx, append([]string{"nsenter", "--net=" + outsideNamespace}, args...)...)
}
