package proxy

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// allowed tells whether a client may connect. A unix socket has its mode.
func (c *Config) allowed(peer Address) bool {
	if len(c.AllowFrom) == 0 || peer.Network == Unix {
		return true
	}
	for _, p := range c.AllowFrom {
		if p.Contains(peer.IP.Addr().WithZone("")) {
			return true
		}
	}
	return false
}

// starter starts the container, where the manager cannot keep who is not
// allowed from starting the proxy: the proxy has the manager start it then,
// for the first client who is.
type starter struct {
	unit    string // that keeps the container up; "" if systemd has done so
	failing func(error)

	mu   sync.Mutex
	done bool
}

// start returns once the container's start is over: the unit is ordered after
// it. Then the container is not one that is going down.
func (s *starter) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.done && s.unit != "" {
		err := s.ask(ctx)
		if s.done = err == nil; s.done {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.failing(fmt.Errorf("cannot start %s: %w", s.unit, err))
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

// isDone does not wait for who is starting it.
func (s *starter) isDone() bool {
	if s.unit == "" {
		return true
	}
	if !s.mu.TryLock() {
		return false
	}
	defer s.mu.Unlock()
	return s.done
}

func (s *starter) ask(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "systemctl", "--user", "start", s.unit).CombinedOutput()
	if said := strings.TrimSpace(string(out)); err != nil && said != "" {
		err = errors.New(said)
	}
	return err
}
