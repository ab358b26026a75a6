package report

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Who rests is waited for by systemd for longer, until it does not rest any more.
func TestWatchdogRests(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if w := NewWatchdog(); w != nil {
		t.Error("a watchdog that nobody asks for")
	}
	t.Setenv("WATCHDOG_USEC", "7200000000") // none is due
	w := NewWatchdog()
	for _, step := range []struct {
		rests bool
		want  string
	}{{true, "WATCHDOG_USEC=3600000000\nWATCHDOG=1"}, {false, "WATCHDOG_USEC=7200000000\nWATCHDOG=1"}} {
		w.Rest(step.rests)
		said := make([]byte, 256)
		n, err := manager.Read(said)
		if err != nil || string(said[:n]) != step.want {
			t.Errorf("rests: %t: %q, %v, want %q", step.rests, said[:n], err, step.want)
		}
	}
}
