package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// allowed reports whether a client may connect: who is in one of the prefixes, or
// everybody if there are none. A unix socket has its mode.
func allowed(prefixes []netip.Prefix, peer wire.Address) bool {
	if len(prefixes) == 0 || peer.Network == wire.Unix {
		return true
	}
	for _, p := range prefixes {
		if p.Contains(peer.IP.Addr().WithZone("")) {
			return true
		}
	}
	return false
}

// starter starts the container, where the manager cannot keep who may not wake it
// from starting the proxy: the proxy has the manager start it then, for the first
// client who may.
type starter struct {
	unit       string // that keeps the container up, or a path that leads to it; "" if systemd has done so
	begins     func() // called at the first attempt
	failing    func(error)
	background func(func())
	hard       context.Context // ends an attempt

	first sync.Once
	asked atomic.Bool // an attempt has begun
	done  atomic.Bool
	mu    sync.Mutex
	over  chan struct{} // closed at the end of the attempt under way; nil: there is none
}

// startPause is the time between an attempt that failed and the next.
const startPause = time.Second

// start returns once the container's start is over: the unit is ordered after
// it. Then the container is not one that is going down. Who waits for an attempt
// can leave, and all others go on waiting for it.
func (s *starter) start(ctx context.Context) error {
	for !s.isDone() {
		select {
		case <-s.attempt():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *starter) isDone() bool { return s.unit == "" || s.done.Load() }

// attempt begins one unless it is under way.
func (s *starter) attempt() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over == nil {
		s.first.Do(s.begins)
		s.asked.Store(true)
		over := make(chan struct{})
		s.over = over
		s.background(func() {
			defer close(over)
			err := s.ask(s.hard)
			s.done.Store(err == nil)
			if err != nil && s.hard.Err() == nil {
				s.failing(fmt.Errorf("cannot start %s: %w", s.unit, err))
				_ = sock.Rest(s.hard, startPause)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.over = nil
		})
	}
	return s.over
}

func askManager(ctx context.Context, unit string) error {
	out, err := exec.CommandContext(ctx, "systemctl", "--user", "start", "--", unit).CombinedOutput()
	if said := strings.TrimSpace(string(out)); err != nil && said != "" {
		err = errors.New(said)
	}
	return err
}
