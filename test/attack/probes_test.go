package attack

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Somebody asks what keeps nothing awake, and does not read the answers, which have
// no end. That once kept the proxy for as long as it took.
func TestUnreadProbes(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=3s", "Probe=/bytes")
		h.MustGet()
		stays := h.Connect() // the app is awake when the last of them asks, too
		say(h, stays, "POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: 1\r\n\r\n")
		for range 20 {
			c := h.Connect()
			_, _ = fmt.Fprintf(c, "GET /bytes?n=%d HTTP/1.1\r\nHost: app\r\n\r\n", int64(1)<<40)
			_, _ = io.ReadFull(c, make([]byte, 1))
		}
		h.MustGet()
		_ = stays.Close()
		h.Asleep()
	})
}

// A crowd is shown a page of 1 MB, and does not read it. Each has once had its own.
func TestUnreadPages(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		const browsers, bound = 200, 60 << 20
		page := "/srv/page-" + h.Name + ".html"
		h.M.Root().Must(t, "sh", "-c", "yes '<p>{{name}} waits' | head -c 1000000 >"+page)
		h.App("app", "-http :80 -delay 1h", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "WaitingPage=yes", "WaitingPageFile="+page)
		first := h.Connect() // is held
		h.WaitState("app-proxy.service", "active")
		before := resident(h)
		for range browsers {
			c := h.Connect()
			_, _ = io.WriteString(c, "GET /"+strings.Repeat("a", 30<<10)+" HTTP/1.1\r\nHost: app\r\nAccept: text/html\r\n\r\n")
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		n := resident(h) - before
		t.Logf("%d browsers cost the proxy %d bytes", browsers, n)
		if n > bound {
			t.Errorf("%d browsers that do not read cost the proxy %d bytes", browsers, n)
		}
		leave(first)
		h.Control("stop", "app-proxy.service", "app.service")
	})
}
