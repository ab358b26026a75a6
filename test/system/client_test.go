package system

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// eachClient runs a test of what the app sees of clients from outside.
func eachClient(t *testing.T, test func(t *testing.T, h *harness.Host)) {
	t.Helper()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), test)
}

// The app sees each client with its own address and port, by TCP and UDP, of
// IPv4 and IPv6, in each kind of network and user namespace. Those on the
// machine itself are somebody else to it than who is in the container.
func TestClientAddress(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		h.PutFile("named.network", "[Network]\n")
		h.PutFile("dual.network", "[Network]\nIPv6=true\n")
		cases := []string{"Network=bridge", "Network=named.network", "Network=dual.network", "Network=none", "User=1234"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap",
				"Network=dual.network\nUserNS=keep-id", "Network=none\nUserNS=nomap")
		}
		for _, setting := range cases {
			for _, listen := range []string{"[::]", "127.0.0.1 [::1]"} {
				t.Run(strings.ReplaceAll(setting, "\n", ",")+","+listen, func(t *testing.T) {
					h := *h
					h.T = t
					var exec []string
					for address := range strings.FieldsSeq(listen) {
						exec = append(exec, fmt.Sprintf("-peer %s:1080 -udp-peer %[1]s:1080", address))
					}
					h.App("app", strings.Join(exec, " "), setting, fmt.Sprintf("PublishPort=%d:1080", h.Port),
						fmt.Sprintf("PublishPort=%d:1080/udp", h.Port), "[ScaleToZero]", "IdleTimeout=1s")
					for _, client := range lab.Outside() {
						seenAsItself(&h, client)
					}
					v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
					for _, client := range []netip.Addr{v4, v6, lab.Uplink(v4), lab.Uplink(v6)} {
						seenAsForeign(&h, client)
					}
					h.Asleep()
				})
			}
		}
	})
}

func seenAsItself(h *harness.Host, client netip.Addr) {
	h.Helper()
	c := h.ConnectAs(client, h.Port)
	defer c.Close()
	if seen := told(h, c); seen != c.LocalAddr().String() {
		h.Errorf("the app takes %s for %s", c.LocalAddr(), seen)
	}
	u := h.DialUDPAs(client, h.Port)
	defer u.Close()
	for range 2 {
		u.Say("who am I?")
		if seen := u.Hear(); seen != u.LocalAddr().String() {
			h.Errorf("the app takes %s for %s, by UDP", u.LocalAddr(), seen)
		}
	}
}

func seenAsForeign(h *harness.Host, client netip.Addr) {
	h.Helper()
	c := h.ConnectAs(client, h.Port)
	defer c.Close()
	u := h.DialUDPAs(client, h.Port)
	defer u.Close()
	u.Say("who am I?")
	for kind, text := range map[string]string{"TCP": told(h, c), "UDP": u.Hear()} {
		if seen, err := netip.ParseAddrPort(text); err != nil || seen.Addr().IsLoopback() {
			h.Errorf("the app takes %s for %s, by %s", client, text, kind)
		}
	}
}

// told is what the app says to a client that has just connected.
func told(h *harness.Host, c net.Conn) string {
	h.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		h.Fatalf("%v\n%s", err, h.LastJournal())
	}
	return strings.TrimSpace(line)
}

// ClientAddress=proxy and the PROXY protocol leave the container's own address,
// and a client whose address the app cannot see is told of once.
func TestClientAddressHidden(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		client := lab.Outside()[0]
		for _, key := range []string{"ClientAddress=proxy", "ProxyProtocol=v1"} {
			h.App("app", "-peer :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", key)
			c := h.ConnectAs(client, h.Port)
			seen := netip.MustParseAddrPort(told(h, c)).Addr()
			c.Close()
			if seen == client || seen.IsLoopback() {
				t.Errorf("with %s the app takes %s for %s", key, client, seen)
			}
			h.Asleep()
		}
		h.App("app", "-peer 127.0.0.1:80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for _, client := range lab.Outside() {
			c := h.ConnectAs(client, h.Port)
			_ = told(h, c)
			c.Close()
		}
		h.Asleep()
		journal, err := h.Journal(t.Context(), "")
		if n := strings.Count(journal, "as its client: it does not listen on ::1"); err != nil || n != 1 {
			t.Errorf("said %d times, %v:\n%s", n, err, journal)
		}
	})
}

// In the host's network the app sees the host's own address for who comes from
// somewhere else. By UDP it is loopback, and so it is for local clients.
func TestClientAddressOnHost(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		port := h.Port + 2000
		for _, listen := range []string{"127.0.0.1", "[::]"} {
			h.App("app", fmt.Sprintf("-peer %s:%d", listen, port), "Network=host", fmt.Sprintf("PublishPort=%d:%d", h.Port, port),
				"[ScaleToZero]", "IdleTimeout=1s")
			for _, client := range lab.Outside() {
				c := h.ConnectAs(client, h.Port)
				if seen := netip.MustParseAddrPort(told(h, c)).Addr(); seen != lab.Uplink(netip.MustParseAddr("127.0.0.1")) {
					t.Errorf("an app on %s takes %s for %s", listen, client, seen)
				}
				c.Close()
			}
			h.Asleep()
		}
	})
}
