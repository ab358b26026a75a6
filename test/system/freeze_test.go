package system

import (
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// A container with Sleep=freeze is frozen when nobody is there, thawed for the next client, and stopped when
// nobody has come for long: then its app gets SIGTERM.
func TestFreeze(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		declare := func(lines ...string) {
			h.App("app", "-http :80 -tally :81", append([]string{h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze"}, lines...)...)
		}
		heard := func(what string) int {
			text, err := h.Journal(t.Context(), "app.service")
			if err != nil {
				t.Fatal(err)
			}
			return strings.Count(text, what)
		}

		declare("StopAfter=infinity")
		id := h.MustGet()
		for range 3 {
			h.Frozen("app")
			if now := h.MustGet(); now != id {
				t.Fatalf("another container: it was stopped\n%s", h.LastJournal())
			}
		}
		if text, err := h.Journal(t.Context(), "app-proxy.service"); err != nil || !strings.Contains(text, "app.service thawed for ") {
			t.Errorf("journal: %s %v", text, err)
		}
		h.Frozen("app")
		h.Control("stop", "app-proxy.service")
		h.Asleep()
		h.Wait("the app has heard of its end", func() bool { return heard("tallied 0") == 1 })

		declare("StopAfter=3s")
		h.MustGet()
		h.Frozen("app")
		h.Asleep()
		h.Wait("the app has heard of its end", func() bool { return heard("tallied 0") == 2 })
	})
}
