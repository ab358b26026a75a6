package system

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// transports are those that zerolet forwards.
func transports() []string { return []string{"tcp", "udp"} }

// peers are the app's arguments to say who its client is, by both of them.
func peers(addresses ...string) string {
	var args []string
	for _, address := range addresses {
		args = append(args, "-peer", address, "-udp-peer", address)
	}
	return strings.Join(args, " ")
}

// sees fails the test unless the app sees who its clients are, with their
// ports, and nobody as 127.0.0.1 or ::1: the machine's loopback is not the
// container's. On loopback alone it cannot see by UDP who has an address of its own.
func sees(h *harness.Host, port int, own ...netip.Addr) {
	h.Helper()
	for _, network := range transports() {
		for _, client := range harness.Clients() {
			seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), port)
			can := network != "udp" || !slices.Contains(own, client)
			if can && seen != is || seen.Addr().IsLoopback() {
				h.Errorf("%s: the app sees %s as %s", network, is, seen)
			}
		}
		for _, client := range harness.Loopbacks() {
			if seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), port); seen.Addr().IsLoopback() {
				h.Errorf("%s: the app sees %s as %s", network, is, seen)
			}
		}
	}
}

// The app sees its client's own address and port, whatever network and user
// namespace Podman gives it, on the wildcard address and on its loopback.
func TestClientAddress(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		users := []string{"", "User=1234", "UserNS=auto"}
		if h.UserManager {
			users = append(users, "UserNS=keep-id", "UserNS=nomap")
		} else {
			// Whose ids UserNS=auto takes for the system's containers (containers-storage.conf(5)).
			h.Must(t, "sh", "-c", "useradd --system containers; echo containers:200000:1000000 | tee -a /etc/subuid >>/etc/subgid")
		}
		type test struct {
			name string
			port int
			own  []netip.Addr
		}
		var tests []test
		for _, network := range h.Networks() {
			var own []netip.Addr
			if network.Name == "pasta" { // it gives the container the machine's addresses (pasta(1))
				own = []netip.Addr{lab.Uplink(harness.Loopbacks()[0]), lab.Uplink(harness.Loopbacks()[1])}
			}
			for _, user := range users {
				port := h.Port + 20*len(tests)
				// Not every user may bind 80.
				h.PutFile(fmt.Sprintf("app%d.container", port), strings.Join(append([]string{
					"[Container]", "Image=" + image, "Exec=" + peers(":8000", "127.0.0.1:8001", "[::1]:8001"),
					fmt.Sprintf("PublishPort=%d:8000", port), fmt.Sprintf("PublishPort=%d:8000/udp", port),
					fmt.Sprintf("PublishPort=%d:8001", port+10), fmt.Sprintf("PublishPort=%d:8001/udp", port+10), user,
				}, append(network.Lines, "[ScaleToZero]", "IdleTimeout=10s", "")...), "\n")) // in which a datagram has to be answered
				tests = append(tests, test{strings.TrimSuffix(network.Name+","+user, ","), port, own})
			}
		}
		h.Reload()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				host := *h
				host.T = t
				host.WaitState(fmt.Sprintf("app%d-proxy.socket", test.port), "active")
				sees(&host, test.port)
				sees(&host, test.port+10, test.own...)
			})
		}
	})
}

// Clients of one port number are told apart, on both protocols at once, and one
// client has the same number on two of the app's ports.
func TestClientsOfOnePort(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		other := h.Port + 10
		h.App("app", peers(":80")+" -peer :81", h.Publish(), h.Publish()+"/udp", fmt.Sprintf("PublishPort=%d:81", other),
			"[ScaleToZero]", "IdleTimeout=1s")
		// That of the other manager's clients is in use, and the kernel gives none of these away by itself.
		number := uint16(20000 + h.Port%10)
		for _, client := range lab.Outside() {
			from := netip.AddrPortFrom(client, number)
			held, err := h.M.DialFrom(t.Context(), "tcp", from, uint16(other))
			if err != nil {
				t.Fatal(err)
			}
			defer held.Close()
			fromOther, err := bufio.NewReader(held).ReadString('\n')
			if err != nil || strings.TrimSpace(fromOther) != from.String() {
				t.Errorf("tcp: the app sees %s as %q, %v", from, fromOther, err)
			}
			for _, network := range append(transports(), "udp") { // of a session that is open, too
				if seen, is := h.Peer(network, from, h.Port); seen != is {
					t.Errorf("%s: the app sees %s as %s", network, is, seen)
				}
			}
		}
	})
}

// Wherever the app listens, its client is who it is where that can be, and
// never local.
func TestClientOfListener(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		four, six := fmt.Sprintf("10.98.%d.", h.Port%10), fmt.Sprintf("fd98:%d::", h.Port%10)
		h.PutFile("own.network", "[Network]\nIPv6=true\nSubnet="+four+"0/24\nSubnet="+six+"/64\n")
		for i, test := range []struct {
			listen string
			own    bool // bound to the container's own address alone
		}{
			{"0.0.0.0:80", false},
			{"127.0.0.1:80", false},
			{"[::1]:80", false},
			{four + "9:80", true},
			{"[" + six + "9]:80", true},
		} {
			t.Run(test.listen, func(t *testing.T) {
				h := *h
				h.T, h.Port = t, h.Port+10*i
				h.App(fmt.Sprintf("app%d", i), peers(test.listen), h.Publish(), h.Publish()+"/udp",
					"Network=own.network", "IP="+four+"9", "IP6="+six+"9", "[ScaleToZero]", "IdleTimeout=1s")
				held := h.Connect() // the app may take its time for a datagram
				family := netip.MustParseAddrPort(test.listen).Addr()
				for _, network := range transports() {
					for _, client := range append(harness.Clients(), harness.Loopbacks()...) {
						seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), h.Port)
						can := !test.own && client.Is4() == family.Is4() && !client.IsLoopback()
						if can && seen != is || seen.Addr().IsLoopback() {
							t.Errorf("%s: the app sees %s as %s", network, is, seen)
						}
					}
				}
				held.Close()
				h.WaitState(fmt.Sprintf("app%d.service", i), "inactive") // the next one has its address
			})
		}
	})
}

// ClientAddress=proxy and the PROXY protocol leave the container's own address,
// and for UDP one that nobody has.
func TestClientAddressHidden(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		four, six := fmt.Sprintf("10.98.%d.", h.Port%10), fmt.Sprintf("fd98:%d::", h.Port%10)
		h.PutFile("own.network", "[Network]\nIPv6=true\nSubnet="+four+"0/24\nSubnet="+six+"/64\n")
		own := map[string][]netip.Addr{
			"tcp": {netip.MustParseAddr(four + "9"), netip.MustParseAddr(six + "9")},
			"udp": {netip.MustParseAddr("169.254.1.2"), netip.MustParseAddr("fd7a::2")},
		}
		hidden := func(key string, networks ...string) {
			t.Helper()
			lines := []string{"Network=own.network", "IP=" + four + "9", "IP6=" + six + "9"}
			for _, network := range networks {
				lines = append(lines, h.Publish()+"/"+network)
			}
			h.App("app", peers(":80"), append(lines, "[ScaleToZero]", "IdleTimeout=1s", key)...)
			held := h.Connect() // the app may take its time for a datagram
			for _, network := range networks {
				for _, client := range append(harness.Clients(), harness.Loopbacks()...) {
					if seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), h.Port); !slices.Contains(own[network], seen.Addr()) {
						t.Errorf("%s, %s: the app sees %s as %s", key, network, is, seen)
					}
				}
			}
			held.Close()
			h.Asleep()
		}
		hidden("ClientAddress=proxy", "tcp", "udp")
		hidden("ProxyProtocol=v1", "tcp")
	})
}

// A client whose address the app cannot see is told of, once.
func TestClientAddressImpossible(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-peer 127.0.0.1:80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		held := h.ConnectAs(lab.Outside()[0], h.Port) // once for each wake
		for _, client := range lab.Outside() {
			h.Peer("tcp", netip.AddrPortFrom(client, 0), h.Port)
		}
		held.Close()
		h.Asleep()
		h.WaitJournal("", "as its client: it does not listen on ::1", 1)
	})
}

// An administrator may take the entry's capability away. Then the app sees its
// own address, which is told once.
func TestClientAddressForbidden(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		if h.UserManager {
			t.Skip("a user's helper has no unit")
		}
		h.PutFile(h.UnitDir+"/app-entry.service.d/less.conf", "[Service]\nCapabilityBoundingSet=~CAP_NET_ADMIN\n")
		h.App("app", "-peer :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		held := h.ConnectAs(lab.Outside()[0], h.Port) // once for each wake
		for _, client := range lab.Outside()[:4] {
			if seen, is := h.Peer("tcp", netip.AddrPortFrom(client, 0), h.Port); seen.Addr() == is.Addr() || seen.Addr().IsLoopback() {
				t.Errorf("the app sees %s as %s", is, seen)
			}
		}
		held.Close()
		h.Asleep()
		h.WaitJournal("", "as its client: operation not permitted", 1)
	})
}

// A VPN in the container leads all that it sends elsewhere. Clients are answered
// all the same, and are who they are.
func TestClientAddressBesideVPN(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		h.App("app", peers(":80")+" -echo :81", h.Publish(), h.Publish()+"/udp", fmt.Sprintf("PublishPort=%d:81", h.Port+10),
			"Network=bridge", "AddCapability=CAP_NET_ADMIN", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.ConnectTo(h.Port + 10)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		sees(h, h.Port)
		pid := strings.TrimSpace(h.Must(t, "podman", "inspect", "--format={{.State.Pid}}", "systemd-app"))
		const vpn = "for f in -4 -6; do ip $f route add default dev eth0 table 7; ip $f rule add not fwmark 7 lookup 7; done" // wg-quick(8)
		h.M.Root().Must(t, "nsenter", "--net=/proc/"+pid+"/ns/net", "sh", "-ec", vpn)
		sees(h, h.Port)
		c.Close()
		h.Asleep()
	})
}

// In the host's network the app sees the host's own address for who comes from
// somewhere else. By UDP it is loopback, and so it is for local clients.
func TestClientAddressOnHost(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		port := h.Port + 2000
		for _, listen := range []string{"127.0.0.1", "[::]"} {
			h.App("app", fmt.Sprintf("-peer %s:%d", listen, port), "Network=host", fmt.Sprintf("PublishPort=%d:%d", h.Port, port),
				"[ScaleToZero]", "IdleTimeout=1s")
			for _, client := range lab.Outside() {
				seen, is := h.Peer("tcp", netip.AddrPortFrom(client, 0), h.Port)
				if seen.Addr() != lab.Uplink(harness.Loopbacks()[0]) {
					t.Errorf("an app on %s sees %s as %s", listen, is, seen)
				}
			}
			h.Asleep()
		}
	})
}
