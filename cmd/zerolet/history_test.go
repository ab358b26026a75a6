package main

import (
	"math"
	"testing"
	"time"
)

// A quantile is one of the cold starts: the smallest that so many do not exceed.
func TestQuantile(t *testing.T) {
	var p past
	if got := p.quantile(0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %g", got)
	}
	for i := range 200 { // in no order
		p.Wakes = append(p.Wakes, wakeReport{Seconds: float64((i*37)%200 + 1)})
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 100, 0.99: 198, 1: 200} {
		if got := p.quantile(q); got != want {
			t.Errorf("p%g is %g, want %g", 100*q, got, want)
		}
	}
}

// The share of the time asleep, and the timeline, are of the time in which the
// container did not run.
func TestSummary(t *testing.T) {
	from := time.Unix(1000, 0)
	at := func(s int) time.Time { return from.Add(time.Duration(s) * time.Second) }
	p := past{From: from, To: at(720), Awake: []period{{at(0), at(90)}, {at(630), at(720)}}, Failures: 2}
	if got, want := p.summary(), "0 wakes, clients turned away 2 times, asleep 75.0 % of 12min"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := p.timeline([]string{".", "+", "#"}), "#########......................................................#########"; got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
}
