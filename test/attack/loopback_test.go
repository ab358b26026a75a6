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
		cases, listens := []string{"Network=bridge", "Network=two.network", "User=1234"}, []string{"[::]"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "Network=none", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap",
				"Network=none\nUserNS=keep-id", "Network=two.network\nUserNS=keep-id", "Network=none\nUserNS=nomap")
			listens = append(listens, "127.0.0.1", "[::1]") // a published port leads to none of them
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
		exec = append(exec, fmt.Sprintf("-peer %s:%d", address, inside+i))
		lines = append(lines, fmt.Sprintf("Listen=%d:%d", h.Port+10*i, inside+i), fmt.Sprintf("Listen=%s:%d", publicSocket(h, i), inside+i))
	}
	h.App("app", strings.Join(exec, " "), append([]string{setting, "[ScaleToZero]", "IdleTimeout=1s"}, lines...)...)
	ownV4, ownV6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
	clients := append(lab.Outside(), ownV4, ownV6, lab.Uplink(ownV4), lab.Uplink(ownV6))
	for i, address := range listens {
		for _, client := range clients {
			notLocal(t, fmt.Sprintf("%s, to %s,", client, address), h.ConnectAs(client, h.Port+10*i))
		}
		c, err := h.M.Dial(t.Context(), "unix", publicSocket(h, i))
		if err != nil {
			t.Fatal(err)
		}
		notLocal(t, "a client of a unix socket, to "+address+",", c)
	}
	h.Asleep()
}

func publicSocket(h *harness.Host, i int) string {
	return fmt.Sprintf("%s/public-%d.sock", h.RuntimeDir, i)
}

func notLocal(t *testing.T, who string, c net.Conn) {
	t.Helper()
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Errorf("%s got no answer: %v", who, err)
		return
	}
	seen, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is %s", who, seen)
	if seen.Addr().IsLoopback() {
		t.Errorf("%s is taken for a local one", who)
	}
}
