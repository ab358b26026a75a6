package attack

import (
	"fmt"
	"io"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Somebody asks what keeps nothing awake, and does not read the answers, which have
// no end. That once kept the proxy for as long as it took.
func TestUnreadProbes(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=3s", "Probe=/bytes")
		h.MustGet()
		for range 20 {
			c := h.Connect()
			_, _ = fmt.Fprintf(c, "GET /bytes?n=%d HTTP/1.1\r\nHost: app\r\n\r\n", int64(1)<<40)
			_, _ = io.ReadFull(c, make([]byte, 1))
		}
		h.MustGet()
		h.Asleep()
	})
}
