package main

import (
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// The share of the time asleep, and the timeline, are of the time in which the
// container did not run.
func TestSummary(t *testing.T) {
	from := time.Unix(1000, 0)
	at := func(s int) time.Time { return from.Add(time.Duration(s) * time.Second) }
	p := service.Past{From: from, To: at(720), Awake: []service.Period{{From: at(0), To: at(90)}, {From: at(630), To: at(720)}}, Failures: 2}
	if got, want := summary(&p), "0 wakes, clients turned away 2 times, asleep 75.0 % of 12min"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := timeline(&p, []string{".", "+", "#"}), "#########......................................................#########"; got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}
