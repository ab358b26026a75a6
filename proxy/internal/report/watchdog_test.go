package report

import (
	"os"
	"strconv"
	"testing"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// Who rests is waited for by systemd for longer, until it does not rest any more.
func TestWatchdogRests(t *testing.T) {
	m := proxytest.NewManager(t)
	t.Setenv("NOTIFY_SOCKET", m.Path)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if NewWatchdog() != nil {
		t.Error("a watchdog that nobody asks for")
	}
	t.Setenv("WATCHDOG_USEC", "7200000000") // no tick is due
	w := NewWatchdog()
	for _, step := range []struct {
		rests bool
		want  string
	}{{true, "WATCHDOG_USEC=3600000000\nWATCHDOG=1"}, {false, "WATCHDOG_USEC=7200000000\nWATCHDOG=1"}} {
		w.Rest(step.rests)
		if said := m.Told(t); said != step.want {
			t.Errorf("rests: %t: %q, want %q", step.rests, said, step.want)
		}
	}
}
