package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// New starts a machine that ends with the test. It skips the test when not root, and with -short. When the test
// has failed, the log shows the units that failed.
func New(t testing.TB, o Options) *Machine {
	t.Helper()
	if testing.Short() {
		t.Skip("lab: it boots a machine")
	}
	m, err := Start(t.Context(), o)
	if errors.Is(err, ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && m.Leader() != 0 {
			m.report(t)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *Machine) report(t testing.TB) {
	// The test's own context has ended before its cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	failed, err := m.Failed(ctx)
	if err != nil {
		t.Log(err)
	}
	for _, line := range failed {
		t.Log("failed unit:", line)
	}
}

// Must runs a command and returns its standard output without the last newline. A failure ends the test.
func (s *Session) Must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.Run(t.Context(), args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.Stdout)
	}
	return strings.TrimSuffix(out.Stdout, "\n")
}

// WaitFor asks for a condition until it is true. After limit, or on an error of the condition, the test ends
// with the journal of the units.
func (s *Session) WaitFor(t testing.TB, limit time.Duration, what string, condition func() (bool, error), units ...string) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	// To ask costs the machine more than to answer: who has waited long is asked for less often, and what is slow to ask for,
	// which it is on a busy machine, too.
	const least, most = 10 * time.Millisecond, 100 * time.Millisecond
	for pause := least; ; pause = min(pause+pause/4, most) {
		asked := time.Now()
		ok, err := condition()
		took := time.Since(asked)
		if ok && err == nil {
			return
		}
		if err != nil {
			t.Fatalf("%s: waiting until %s: %v\n%s", s.Name, what, err, s.journals(t, units))
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: after %s it is still not so that %s\n%s", s.Name, limit, what, s.journals(t, units))
		case <-time.After(max(pause, min(2*took, time.Second))):
		}
	}
}

func (s *Session) journals(t testing.TB, units []string) string {
	var all strings.Builder
	for _, unit := range units {
		text, err := s.Journal(t.Context(), unit)
		if err != nil {
			text += err.Error()
		}
		all.WriteString("journal of " + unit + ":\n" + text)
	}
	return all.String()
}
