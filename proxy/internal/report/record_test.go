package report

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1 kB", 1200: "1.2 kB", 999400: "999 kB", 999600: "1 MB", 30_000_000: "30 MB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	if m, ok := l.pass("a"); !ok || m != "a" {
		t.Errorf("first: %q %v", m, ok)
	}
	for range 3 {
		if _, ok := l.pass("a"); ok {
			t.Error("passes too often")
		}
	}
	l.next = time.Now()
	if m, ok := l.pass("a"); !ok || m != "a (and 3 more before)" {
		t.Errorf("later: %q %v", m, ok)
	}
}
