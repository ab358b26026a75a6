package system

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// transports are those that zerolet forwards.
func transports() []string { return []string{"tcp", "udp"} }

// sees fails the test unless the app sees who its clients are, with their
// ports, and nobody as 127.0.0.1 or ::1: the machine's loopback is not the
// container's.
func sees(h *harness.Host, port int) {
	h.Helper()
	for _, network := range transports() {
		for _, client := range harness.Clients() {
			if seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), port); seen != is {
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
// namespace Podman gives it.
func TestPeer(t *testing.T) {
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
			h.Must(t, "sh", "-c", "echo containers:200000:1000000 | tee -a /etc/subuid >>/etc/subgid")
		}
		type test struct {
			name string
			port int
		}
		var tests []test
		for _, network := range h.Networks() {
			for _, user := range users {
				port := h.Port + 10*len(tests)
				// Not every user may bind 80.
				h.PutFile(fmt.Sprintf("app%d.container", port), strings.Join(append([]string{
					"[Container]", "Image=" + image, "Exec=-peer :8000 -udp-peer :8000",
					fmt.Sprintf("PublishPort=%d:8000", port), fmt.Sprintf("PublishPort=%d:8000/udp", port), user,
				}, append(network.Lines, "[ScaleToZero]", "IdleTimeout=1s", "")...), "\n"))
				tests = append(tests, test{strings.TrimSuffix(network.Name+","+user, ","), port})
			}
		}
		h.Reload()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				host := *h
				host.T = t
				host.WaitState(fmt.Sprintf("app%d-proxy.socket", test.port), "active")
				sees(&host, test.port)
			})
		}
	})
}

// Clients of one port number are told apart, on both protocols at once.
func TestPeersOfOnePort(t *testing.T) {
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-peer :80 -udp-peer :80", h.Publish(), h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1s")
		for range 2 { // of sessions that are open already
			for _, network := range transports() {
				for _, client := range lab.Outside() {
					if seen, is := h.Peer(network, netip.AddrPortFrom(client, 50000), h.Port); seen != is {
						t.Errorf("%s: the app sees %s as %s", network, is, seen)
					}
				}
			}
		}
		h.Asleep()
	})
}

// Wherever the app listens, its client is who it is where that can be, and
// never local.
func TestPeerOfListener(t *testing.T) {
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
				h.App(fmt.Sprintf("app%d", i), "-peer "+test.listen+" -udp-peer "+test.listen, h.Publish(), h.Publish()+"/udp",
					"Network=own.network", "IP="+four+"9", "IP6="+six+"9", "[ScaleToZero]", "IdleTimeout=1s")
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
				h.WaitState(fmt.Sprintf("app%d.service", i), "inactive") // the next one has its address
			})
		}
	})
}

// With ClientAddress=proxy all clients have the container's own address.
func TestClientAddressProxy(t *testing.T) {
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		four, six := fmt.Sprintf("10.98.%d.", h.Port%10), fmt.Sprintf("fd98:%d::", h.Port%10)
		h.PutFile("own.network", "[Network]\nIPv6=true\nSubnet="+four+"0/24\nSubnet="+six+"/64\n")
		h.App("app", "-peer :80 -udp-peer :80", h.Publish(), h.Publish()+"/udp",
			"Network=own.network", "IP="+four+"9", "IP6="+six+"9", "[ScaleToZero]", "IdleTimeout=1s", "ClientAddress=proxy")
		own := map[netip.Addr]bool{netip.MustParseAddr(four + "9"): true, netip.MustParseAddr(six + "9"): true}
		for _, network := range transports() {
			for _, client := range append(harness.Clients(), harness.Loopbacks()...) {
				if seen, is := h.Peer(network, netip.AddrPortFrom(client, 0), h.Port); !own[seen.Addr()] {
					t.Errorf("%s: the app sees %s as %s", network, is, seen)
				}
			}
		}
		h.Asleep()
	})
}
