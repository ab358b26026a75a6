package attack

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

// T0: no client is 127.0.0.1 or ::1 for the app, who listens there or everywhere,
// in any kind of network and user namespace, wherever the client comes from, by
// a unix socket, too.
func TestLocalByPassage(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		h.PutFile("two.network", "[Network]\nIPv6=true\n")
		listens := []string{"[::]", "127.0.0.1", "[::1]"}
		cases := []string{"Network=bridge", "Network=two.network", "Network=none", "User=1234"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap",
				"Network=none\nUserNS=keep-id", "Network=two.network\nUserNS=keep-id", "Network=none\nUserNS=nomap")
		}
		for _, setting := range cases {
			t.Run(strings.ReplaceAll(setting, "\n", ","), func(t *testing.T) {
				h := *h
				h.T = t
				neverLocal(t, &h, setting, listens)
			})
		}
	})
}

func neverLocal(t *testing.T, h *harness.Host, setting string, listens []string) {
	t.Helper()
	const inside = 1080 // not every user may bind 80
	var exec, lines []string
	for i, address := range listens {
		exec = append(exec, fmt.Sprintf("-peer %s:%d -udp-peer %[1]s:%[2]d", address, inside+i))
		lines = append(lines, fmt.Sprintf("Listen=%d:%d", h.Port+10*i, inside+i),
			fmt.Sprintf("Listen=%d:%d/udp", h.Port+10*i, inside+i), fmt.Sprintf("Listen=%s:%d", publicSocket(h, i), inside+i))
	}
	h.App("app", strings.Join(exec, " "), append([]string{setting, "[ScaleToZero]", "IdleTimeout=1s"}, lines...)...)
	ownV4, ownV6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	clients := append(lab.Outside(), ownV4, ownV6, lab.Uplink(ownV4), lab.Uplink(ownV6))
	for i, address := range listens {
		for _, client := range clients {
			who := fmt.Sprintf("%s, to %s,", client, address)
			notLocal(t, who, tcpAnswer(t, h.ConnectAs(client, h.Port+10*i)))
			c := h.DialUDPAs(client, h.Port+10*i)
			notLocal(t, who+" by UDP,", c.Ask("who am I?"))
			_ = c.Close()
		}
		c, err := h.M.Dial(t.Context(), "unix", publicSocket(h, i))
		if err != nil {
			t.Fatal(err)
		}
		notLocal(t, "a client of a unix socket, to "+address+",", tcpAnswer(t, c))
	}
	h.Asleep()
}

func publicSocket(h *harness.Host, i int) string {
	return fmt.Sprintf("%s/public-%d.sock", h.RuntimeDir, i)
}

func tcpAnswer(t *testing.T, c net.Conn) string {
	t.Helper()
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Errorf("%s got no answer: %v", c.LocalAddr(), err)
	}
	return strings.TrimSpace(line)
}

func notLocal(t *testing.T, who, answer string) {
	t.Helper()
	seen, err := netip.ParseAddrPort(answer)
	if err != nil {
		t.Errorf("%s got %q: %v", who, answer, err)
	}
	t.Logf("%s is %s", who, seen)
	if seen.Addr().IsLoopback() {
		t.Errorf("%s is taken for a local one", who)
	}
}
