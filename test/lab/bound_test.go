package lab

import (
	"context"
	"errors"
	"testing"
)

// There are Bound places. Who finds none waits until one is given up.
func TestPlaces(t *testing.T) {
	cache := t.TempDir()
	for range Bound() - 1 {
		place, err := takePlace(t.Context(), cache)
		if err != nil {
			t.Fatal(err)
		}
		defer place.Close()
	}
	last, err := takePlace(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	full, cancel := context.WithCancel(t.Context())
	cancel()
	if place, err := takePlace(full, cache); !errors.Is(err, context.Canceled) {
		t.Errorf("one more has got %v, %v", place, err)
	}
	taken := make(chan error, 1)
	go func() {
		place, err := takePlace(t.Context(), cache)
		taken <- errors.Join(err, place.Close())
	}()
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Error(err)
	}
}
