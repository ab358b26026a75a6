package attack

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// With Mode=native a container is passed sockets of the host's network. What it
// accepts from them it can disconnect and connect anew, to the host's loopback
// even with Network=none: docs/internals/security.md says so, and the way to
// prevent it, which needs the system's manager.
func TestNativeReachesTheHost(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{Outside: true})
	secret(&harness.Host{T: t, M: m}, "127.0.0.1:9000")
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		// Who takes its socket elsewhere is connected to nobody: the idle time runs while it does.
		h.App("app", "-escape systemd:0", "Label=zerolet.native=yes", "Network=none", h.Publish(), "[ScaleToZero]", "Mode=native")
		says := func(want string) {
			t.Helper()
			c := h.Connect()
			h.Wait("the container says "+want, func() bool {
				text, err := h.Journal(t.Context(), "app.service")
				return err == nil && strings.Contains(text, want)
			}, "app.service")
			_ = c.Close()
		}
		says("escaped: secret")
		h.Must(t, "zerolet", "sleep", "--force", "app")
		h.Asleep()
		if h.UserManager {
			return // its manager cannot filter (systemd.resource-control(5))
		}
		h.PutFile(filepath.Join(h.UnitDir, "app-proxy.socket.d", "50-test.conf"), "[Socket]\nIPAddressDeny=localhost\n")
		h.Reload()
		h.Control("restart", "app-proxy.socket")
		escaped, err := h.Journal(t.Context(), "app.service")
		if err != nil {
			t.Fatal(err)
		}
		c := h.ConnectAs(lab.Outside()[0], h.Port)
		h.Wait("the container is stopped at it", func() bool {
			text, err := h.Journal(t.Context(), "app.service")
			return err == nil && strings.Count(text, "escape:") > 0
		}, "app.service")
		_ = c.Close()
		if now, err := h.Journal(t.Context(), "app.service"); err != nil || strings.Count(now, "escaped:") != strings.Count(escaped, "escaped:") {
			t.Errorf("%v\n%s", err, now)
		}
	})
}

// secret listens on the host and says one.
func secret(h *harness.Host, address string) {
	h.Helper()
	l := onHost(h, address)
	h.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "secret")
			_ = c.Close()
		}
	}()
}
