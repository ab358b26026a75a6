package attack

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
)

// held is how many clients may wait for an app, and crowd more than that, and no
// more than fit into the kernel's backlog besides (net.core.somaxconn, 4096).
const held, crowd = 8192, 9000

// A crowd waits for an app that never listens. No more are held than
// docs/security.md says, for what it says, and the others wait in the backlog.
func TestHeldCrowd(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -delay 1h", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		first := h.Connect()
		before := resident(h)
		leaveAll := gather(h)
		h.Wait("no more are accepted, or all are", func() bool {
			text, err := h.Journal(t.Context(), "app-proxy.service")
			return err == nil && strings.Contains(text, "8192 clients held, no more are allowed") && open(h) >= held || open(h) > crowd
		}, "app-proxy.service")
		n, size := open(h), resident(h)-before
		t.Logf("%d clients cost the proxy %d bytes, %d each", n, size, size/n)
		if n > held || size > held*10<<10 {
			t.Errorf("%d clients are held, and cost the proxy %d bytes", n, size)
		}
		leaveAll(first)
		h.Control("stop", "app-proxy.service", "app.service")
	})
}

// gather has the crowd connect. All leave at once.
func gather(h *harness.Host) (leaving func(first *net.TCPConn)) {
	h.Helper()
	var all []*net.TCPConn
	err := h.M.Network(func() error {
		for range crowd {
			c, err := net.Dial("tcp", h.Addr())
			if err != nil {
				return err
			}
			all = append(all, c.(*net.TCPConn))
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return func(first *net.TCPConn) {
		for _, c := range append(all, first) {
			leave(c)
		}
	}
}

// open is how many connections the proxy says that it has.
func open(h *harness.Host) int {
	h.Helper()
	return int(wire.ParseStatus(h.Property("app-proxy.service", "StatusText")).Open)
}

// resident is the memory of the proxy's process, in bytes.
func resident(h *harness.Host) int {
	h.Helper()
	h.WaitState("app-proxy.service", "active")
	text := h.M.Root().Must(h.T, "grep", "^VmRSS:", "/proc/"+h.Property("app-proxy.service", "MainPID")+"/status")
	kilobytes, err := strconv.Atoi(strings.Fields(text)[1])
	if err != nil {
		h.Fatal(err)
	}
	return kilobytes << 10
}
