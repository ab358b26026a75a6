package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// healthCheck is how an app with Notify=healthy is asked while it starts.
type healthCheck struct {
	name  string
	lines []string
	// spread is the time over which the moments are at which the app becomes healthy,
	// from the first check on. systemd bounds how often Podman's service may start
	// (DefaultStartLimitIntervalSec=, 10 s): it is longer than that, and than a round
	// of the checks.
	spread time.Duration
	rounds int // 0: as many as asked for
}

func healthChecks() []healthCheck {
	return []healthCheck{
		{name: "every 30 s, and at the start by zerolet", spread: 12 * time.Second},
		// An option of Podman's about health keeps zerolet from asking.
		{name: "every second, by Podman alone", lines: []string{"PodmanArgs=--health-interval=1s"}, spread: 12 * time.Second},
		{name: "every 30 s, by Podman alone", lines: []string{"PodmanArgs=--health-interval=30s"}, spread: 32 * time.Second, rounds: 5},
	}
}

// health measures how long a client waits for an app that has become healthy, by the
// app's own word: the file for which its check looks is there.
func health(ctx context.Context, args ...string) (_ string, err error) {
	rounds := 11
	if len(args) > 0 {
		if rounds, err = strconv.Atoi(args[0]); err != nil {
			return "", err
		}
	}
	m, err := booted(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var text strings.Builder
	fmt.Fprintf(&text, "%s; trixie; from healthy to the client's first byte in s: median (quartiles) and the longest.\n\n", machine())
	text.WriteString("| manager | the check | rounds | median | longest |\n|---|---|---|---|---|\n")
	for i, s := range m.Sessions() {
		for _, check := range healthChecks() {
			took, err := check.measure(ctx, m, s, 8100+10*i, rounds)
			if err != nil {
				return "", fmt.Errorf("%s, %s: %w", s.Name, check.name, err)
			}
			fmt.Fprintf(&text, "| %s | %s | %d | %.2f (%.2f–%.2f) | %.2f |\n", s.Name, check.name, len(took),
				took.median().Seconds(), took.at(0.25).Seconds(), took.at(0.75).Seconds(), took.at(1).Seconds())
		}
	}
	return text.String(), nil
}

// measure has the app wake so many times, and become healthy at another moment each
// time.
func (c healthCheck) measure(ctx context.Context, m *lab.Machine, s *lab.Session, port, rounds int) (sample, error) {
	image, err := s.AppImage(ctx)
	if err != nil {
		return nil, err
	}
	dir := s.Home + "/health"
	if _, err := s.Run(ctx, "mkdir", "-p", dir); err != nil {
		return nil, err
	}
	lines := append([]string{
		"[Container]", "Image=" + image, "Exec=-http :80", fmt.Sprintf("PublishPort=%d:80", port), "Volume=" + dir + ":/health",
		"Notify=healthy", `HealthCmd=["/app","-exists","/health/ok"]`,
	}, c.lines...)
	if err := s.Put(ctx, "bench.container", strings.Join(append(lines, "[ScaleToZero]", "IdleTimeout=1h", ""), "\n")); err != nil {
		return nil, err
	}
	if _, err := s.Run(ctx, "zerolet", "apply"); err != nil {
		return nil, err
	}
	if c.rounds > 0 {
		rounds = min(c.rounds, rounds)
	}
	var all sample
	for i := range rounds {
		delay := c.spread * time.Duration(2*i+1) / time.Duration(2*rounds)
		took, err := healthyRound(ctx, m, s, port, dir+"/ok", delay)
		if err != nil {
			return nil, err
		}
		all = append(all, took)
	}
	return all, nil
}

// healthyRound is one wake.
func healthyRound(ctx context.Context, m *lab.Machine, s *lab.Session, port int, file string, delay time.Duration) (time.Duration, error) {
	if err := os.Remove(m.Host(file)); err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	c, err := m.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(httpRequest)); err != nil {
		return 0, err
	}
	if err := awaitCheck(ctx, s); err != nil {
		return 0, err
	}
	if err := rest(ctx, delay); err != nil {
		return 0, err
	}
	if err := os.WriteFile(m.Host(file), nil, 0o644); err != nil {
		return 0, err
	}
	healthy := time.Now()
	_ = c.SetReadDeadline(healthy.Add(2 * time.Minute))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return 0, err
	}
	took := time.Since(healthy)
	_, err = s.Run(ctx, "zerolet", "sleep", "--force", "bench")
	return took, err
}

// awaitCheck waits until the app was asked for the first time.
func awaitCheck(ctx context.Context, s *lab.Session) error {
	for {
		out, err := s.Run(ctx, "podman", "inspect", "--format={{len .State.Health.Log}}", "systemd-bench")
		if n, e := strconv.Atoi(strings.TrimSpace(out.Stdout)); err == nil && e == nil && n > 0 {
			return nil
		}
		if err := rest(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
