package system

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// What explain says of a key stands at the line that sets it.
func TestExplain(t *testing.T) {
	t.Parallel()
	keys := []struct{ line, says string }{
		{"AllowFrom=127.0.0.0/8", "only 127.0.0.0/8 may connect; the others are "},
		{"StartTimeout=1min", "the first client starts app.service; each is held until the app accepts, at most 1min"},
		{"ReadyCheck=http:/", "no client is let through before the app answers a GET of / with 2xx or 3xx"},
		{"MaxConnections=7", "7 connections are served at a time, the others wait"},
		{"ClientAddress=proxy", "the app sees the container's own address as that of each client"},
		{"ConnectionIdleTimeout=1h", "a connection without a byte for 1h no longer counts"},
		{"IdleTimeout=1s", "stops 1s after the last connection"},
	}
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		lines := []string{h.Publish(), "[ScaleToZero]"}
		for _, k := range keys {
			lines = append(lines, k.line)
		}
		h.App("app", "-http :80", lines...)
		h.MustGet()
		told := strings.Split(h.Must(t, "zerolet", "explain", "app"), "\n")
		for i, k := range keys {
			const first = 6 // after [Container], Image=, Exec= and these
			at := fmt.Sprintf(" app.container:%d", first+i)
			if !slices.ContainsFunc(told, func(line string) bool {
				return strings.HasPrefix(line, "  "+k.says) && strings.HasSuffix(line, at)
			}) {
				t.Errorf("want %q at%s in\n%s", k.says, at, strings.Join(told, "\n"))
			}
		}
		h.Asleep()
	})
}
