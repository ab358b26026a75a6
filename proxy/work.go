package proxy

import (
	"fmt"
	"sync"
	"time"
)

// A container may work though nobody is connected: it transcodes, indexes,
// builds. With BusyCPU= it is not idle then. The processor time is read when an
// idle time begins and when it is over, and at no other time.

// work is what the container had used when it was last looked at.
type work struct {
	mu    sync.Mutex
	at    time.Time // zero: not looked at since it was last in use
	since int64     // the end of that use
	used  time.Duration
}

// begin notes what the container has used when an idle time begins.
func (s *server) beginWork() {
	if s.cfg.BusyCPU == 0 || s.activity.busy() {
		return
	}
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	if last := s.activity.lastEnd.Load(); s.work.at.IsZero() || s.work.since != last {
		if used, err := s.cgroup.Processor(); err == nil {
			s.work.at, s.work.since, s.work.used = time.Now(), last, used
		}
	}
}

// works reports whether the container has worked through the idle time that is
// over, and counts that as a use: another one begins.
func (s *server) works() bool {
	if s.cfg.BusyCPU == 0 {
		return false
	}
	used, err := s.cgroup.Processor()
	if err != nil { // it is gone, which is no work; or else somebody has to know
		s.record.Retrying(fmt.Errorf("cannot tell whether %s works: %w", s.cfg.Container, err))
		return false
	}
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	now := time.Now()
	known := !s.work.at.IsZero() && s.work.since == s.activity.lastEnd.Load() &&
		now.Sub(s.work.at) >= s.idleTime()/2 // the begin is noted up to a second late, and a moment tells nothing
	busy := float64(used-s.work.used) > float64(s.cfg.BusyCPU)/100*float64(now.Sub(s.work.at))
	if known && !busy {
		return false
	}
	s.activity.touch(now)
	s.work.at, s.work.since, s.work.used = now, s.activity.lastEnd.Load(), used
	return true
}

// hasSession reports whether somebody is in the container by podman-exec(1), and counts
// that as a use.
func (s *server) hasSession() bool {
	there, err := s.cgroup.Session(), error(nil)
	if s.entry != nil {
		there, err = s.entry.Session()
	}
	if err != nil {
		s.record.Retrying(fmt.Errorf("cannot tell whether somebody is in %s: %w", s.cfg.Container, err))
	}
	if there {
		s.activity.touch(time.Now())
	}
	return there
}
