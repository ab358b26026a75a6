package systemd

import (
	"testing"
	"time"
)

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10000000":             10 * time.Second,
		"90000000":             time.Minute,
		"18446744073709551615": time.Minute, // infinity
		"":                     time.Minute, // not told
	} {
		if got := (Unit{"TimeoutStopUSec": text}).Span("TimeoutStopUSec", time.Minute); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
