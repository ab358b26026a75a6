package proxy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// call is what the calendar does.
func call(t *testing.T, path string) {
	t.Helper()
	at := time.Now()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil { // the kernel's own clock ticks slowly
		t.Fatal(err)
	}
}

// A call at any moment of the end is heard: it is a use up to the last look, and
// from then on there is another proxy for it.
func TestCalendarAtTheEnd(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.Calendar = 20*time.Millisecond, filepath.Join(t.TempDir(), "web")
	looks := 0
	s := serve(t, cfg, front, func(s *server) {
		s.afterPause = func() {
			if looks++; looks <= 3 {
				call(t, cfg.Calendar)
			}
		}
	})
	s.wait(t)
	if looks < 4 {
		t.Errorf("gone after %d looks, with a call at each of the first 3", looks)
	}
	if log := s.log.String(); !strings.Contains(log, "ready for calendar") {
		t.Errorf("journal:\n%s", log)
	}
	s = serve(t, cfg, front, func(s *server) { s.afterStopping = func() { call(t, cfg.Calendar) } })
	s.wait(t)
	if !errors.Is(s.err, errCalled) {
		t.Errorf("called at the very end: %v", s.err)
	}
}

// A container that was woken by the calendar is kept up until its app is there, for
// longer than the idle time, too.
func TestCalendarAwaitsApp(t *testing.T) {
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	cfg := proxytest.Config(front, addr)
	cfg.IdleTimeout, cfg.Calendar = 20*time.Millisecond, filepath.Join(t.TempDir(), "web")
	call(t, cfg.Calendar)
	s := serve(t, cfg, front, nil)
	s.waitHeldOn(t, addr)
	proxytest.Eventually(t, "the idle time was over", func() bool { return time.Since(s.activity.start) > 10*cfg.IdleTimeout })
	proxytest.App(t, proxytest.ListenTCP(t, addr.IP.String()), proxytest.Echo)
	s.wait(t)
	if log := s.log.String(); !strings.Contains(log, "ready for calendar") {
		t.Errorf("journal:\n%s", log)
	}
}

// The proxy stays for the least time, from its start and from each call.
func TestStayAwake(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.StayAwake, cfg.Calendar = time.Millisecond, 200*time.Millisecond, filepath.Join(t.TempDir(), "web")
	began := time.Now()
	serve(t, cfg, front, nil).wait(t)
	if took := time.Since(began); took < cfg.StayAwake {
		t.Errorf("gone after %s", took)
	}
	var called time.Time
	s := serve(t, cfg, front, func(s *server) {
		s.afterPause = func() {
			if called.IsZero() {
				call(t, cfg.Calendar)
				called = time.Now()
			}
		}
	})
	s.wait(t)
	if took := time.Since(called); took < cfg.StayAwake {
		t.Errorf("gone %s after the call", took)
	}
}
