package system

import (
	"fmt"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// TestVariablePort: a PublishPort= for the port that Listen= names is dropped,
// also where its host side is known to systemd alone. Podman would bind it
// beside the socket, and nothing would start.
func TestVariablePort(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", "PublishPort=${WEB_PORT}:80", "[Service]", fmt.Sprintf("Environment=WEB_PORT=%d", h.Port),
			"[ScaleToZero]", fmt.Sprintf("Listen=%d:80", h.Port), "IdleTimeout=1s")
		h.MustGet()
		h.Asleep()
	})
}
