package service

import (
	"math"
	"testing"
)

// A quantile is one of the cold starts: the smallest that so many do not exceed.
func TestQuantile(t *testing.T) {
	var p Past
	if got := Quantile(p.Took(false), 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: %g", got)
	}
	for i := range 200 { // in no order
		p.Wakes = append(p.Wakes, Wake{Seconds: float64((i*37)%200 + 1)})
	}
	p.Wakes = append(p.Wakes, Wake{Seconds: 1000, Frozen: true})
	for q, want := range map[float64]float64{0: 1, 0.5: 100, 0.99: 198, 1: 200} {
		if got := Quantile(p.Took(false), q); got != want {
			t.Errorf("p%g is %g, want %g", 100*q, got, want)
		}
	}
}
