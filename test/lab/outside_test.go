package lab_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/lab"
)

// A server on the machine sees each client with the address that it has, after a reboot too, and nothing leads
// from their network to anywhere else.
func TestOutside(t *testing.T) {
	m := lab.New(t, lab.Options{Outside: true})
	for range 2 {
		var server net.Listener
		if err := m.Network(func() (err error) {
			server, err = net.Listen("tcp", ":7000")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := server.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, c.RemoteAddr())
				c.Close()
			}
		}()
		own := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}
		for _, client := range append(lab.Outside(), append(own, lab.Uplink(own[0]), lab.Uplink(own[1]))...) {
			c := must(m.DialFrom(t.Context(), "tcp", netip.AddrPortFrom(client, 0), 7000))(t)
			if seen := must(io.ReadAll(c))(t); string(seen) != c.LocalAddr().String() || !strings.Contains(string(seen), client.String()) {
				t.Errorf("%s is seen as %s", client, seen)
			}
			c.Close()
		}
		routes := must(m.CommandOutside(t.Context(), "ip", "route", "show", "default").Output())(t)
		if len(routes) > 0 {
			t.Errorf("a way on: %s", routes)
		}
		server.Close()
		if err := m.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
