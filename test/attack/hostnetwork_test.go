package attack

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Somebody takes the port of an app in the host's network while it sleeps. No
// client is handed to them, by neither protocol, and once they are gone the
// client who waits is served. (The thief is root's: no uid gives it away.)
func TestHostNetworkPortTaken(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		private := fmt.Sprintf("127.0.0.1:%d", h.Port+1000)
		h.App("app", fmt.Sprintf("-tally %[1]s -udp %[1]s", private), "Network=host",
			fmt.Sprintf("PublishPort=%d:%d", h.Port, h.Port+1000), fmt.Sprintf("PublishPort=%d:%d/udp", h.Port, h.Port+1000),
			"[ScaleToZero]", "IdleTimeout=1s")
		for protocol, told := range map[string]string{"tcp": "connect " + private, "udp": "connect udp:" + private} {
			thief := take(h, protocol, private)
			c, err := h.M.Dial(t.Context(), protocol, h.Addr())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("token\n")); err != nil {
				t.Fatal(err)
			}
			h.Wait("the thief gets something, or the proxy says that it does not", func() bool {
				text, err := h.Journal(t.Context(), "app-proxy.service")
				return thief.loot() != "" || err == nil && strings.Contains(text, told+": not in the container's unit")
			}, "app-proxy.service")
			thief.leave()
			got := make([]byte, 1000)
			n, err := c.Read(got)
			if answer := string(got[:n]); err != nil || !strings.Contains(answer, " 1 ") || !strings.HasSuffix(answer, " token\n") {
				t.Errorf("%s: the client was answered %q, %v", protocol, answer, err)
			}
			if loot := thief.loot(); loot != "" {
				t.Errorf("%s: the thief got %q", protocol, loot)
			}
			_ = c.Close()
			h.Asleep()
			h.Control("reset-failed")
		}
	})
}

// thief answers who it can, and keeps what it is told.
type thief struct {
	leave func()
	mu    sync.Mutex
	got   strings.Builder
}

func take(h *harness.Host, protocol, address string) *thief {
	h.Helper()
	t := new(thief)
	err := h.M.Network(func() error {
		if protocol == "udp" {
			c, err := net.ListenPacket(protocol, address)
			if err == nil {
				t.leave = func() { c.Close() }
				go t.collect(c.ReadFrom, func(to net.Addr) { _, _ = c.WriteTo([]byte("evil"), to) })
			}
			return err
		}
		l, err := net.Listen(protocol, address)
		if err == nil {
			t.leave = func() { l.Close() }
			go t.accept(l)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(t.leave)
	return t
}

func (t *thief) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = c.Write([]byte("evil"))
			t.collect(func(b []byte) (int, net.Addr, error) {
				n, err := c.Read(b)
				return n, nil, err
			}, func(net.Addr) {})
		}()
	}
}

func (t *thief) collect(read func([]byte) (int, net.Addr, error), answer func(net.Addr)) {
	b := make([]byte, 1000)
	for {
		n, from, err := read(b)
		if err != nil {
			return
		}
		t.mu.Lock()
		t.got.Write(b[:n])
		t.mu.Unlock()
		answer(from)
	}
}

func (t *thief) loot() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.got.String()
}
