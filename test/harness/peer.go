package harness

import (
	"bufio"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// Clients are one of each kind, of IPv4 and IPv6: next to the machine, behind a
// router, and on the machine itself by its address.
func Clients() []netip.Addr {
	outside := lab.Outside()
	n := len(outside)
	return []netip.Addr{outside[0], outside[n/2-1], outside[n/2], outside[n-1], lab.Uplink(outside[0]), lab.Uplink(outside[n-1])}
}

// Loopbacks are what clients on the machine have who come by its loopback.
func Loopbacks() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// Peer is whom "app -peer" or "app -udp-peer" sees when a client with an
// address of the machine's or of [lab.Outside] comes to a port, and who that is.
func (h *Host) Peer(network string, client netip.AddrPort, port int) (seen, is netip.AddrPort) {
	h.Helper()
	c, err := h.M.DialFrom(h.Context(), network, client, uint16(port))
	if err != nil {
		h.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	is = netip.MustParseAddrPort(c.LocalAddr().String())
	text, err := who(c, network)
	if err == nil {
		seen, err = netip.ParseAddrPort(text)
	}
	if err != nil {
		h.Fatalf("%s from %s to port %d: %q, %v\n%s", network, is, port, text, err, h.LastJournal())
	}
	return seen, is
}

func who(c net.Conn, network string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(Patience))
	if network == "udp" {
		if _, err := c.Write([]byte("who?")); err != nil {
			return "", err
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		return string(buf[:n]), err
	}
	text, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSuffix(text, "\n"), err
}
