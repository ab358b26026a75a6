package proxy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// A calendar wakes the container as a client would, but has no connection. Its
// service touches a file and then has systemd start the proxy. If the proxy runs
// already, systemd does nothing; the file tells it, and that is a use.
//
// Nothing is lost at the end: systemd takes notice of a STOPPING=1 before that of
// a child that ended later, such as touch (manager.h, EVENT_PRIORITY_NOTIFY and
// EVENT_PRIORITY_SIGCHLD). So who has said STOPPING=1 and finds the file as it
// was can go: the start that follows is for another proxy.

// errCalled is how a proxy ends that has been called too late to stay: systemd
// starts another one.
var errCalled = errors.New("called by the calendar at the very end")

// calendar is the file.
type calendar struct {
	path string // "" without a calendar
	mu   sync.Mutex
	seen time.Time // its time stamp; zero: there was none
}

// called reports whether the calendar has called since it was last asked.
func (c *calendar) called() bool {
	if c.path == "" {
		return false
	}
	info, err := os.Stat(c.path)
	if err != nil {
		return false // its first call makes it, and the end of a proxy removes it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	again := !info.ModTime().Equal(c.seen)
	c.seen = info.ModTime()
	return again
}

// hearCalendar counts a call as a use, and as a wake, and reports whether there was
// one.
func (s *server) hearCalendar() bool {
	if !s.calendar.called() {
		return false
	}
	s.activity.touch(time.Now())
	s.activity.stay(s.cfg.StayAwake)
	if !s.activity.isReached() {
		s.activity.waking.Add(1)
		s.background(s.wokenByCalendar)
	}
	s.freezing.poke()
	return true
}

// wokenByCalendar says when the app is there, though perhaps no client has come:
// it is asked in the calendar's name. Until then the container is kept up, as it is
// for a client: an app that starts for longer than the idle time would never be there.
func (s *server) wokenByCalendar() {
	defer func() {
		s.activity.touch(time.Now())
		s.activity.waking.Add(-1)
	}()
	ctx, cancel := context.WithTimeout(s.hard, s.cfg.StartTimeout)
	defer cancel()
	if s.starter.start(ctx) == nil && s.askApp(ctx) {
		s.reached(func() string { return wire.Calendar })
	}
}

// askApp waits until the app accepts, and reports whether it does before ctx ends.
func (s *server) askApp(ctx context.Context) bool {
	t := s.asked()
	return t == nil || s.askTarget(ctx, t)
}

// asked is the port to ask whether the app accepts: the first one. It is nil if there
// are only ports of UDP.
func (s *server) asked() *target {
	for _, f := range s.cfg.Forwards {
		if f.Listen.Network != wire.UDP {
			return s.targets[f.Listen]
		}
	}
	return nil
}

// askTarget is askApp for one port.
func (s *server) askTarget(ctx context.Context, t *target) bool {
	return s.takeLeave(t.reach(ctx, netip.AddrPort{}, time.Now()))
}

// takeLeave ends a connection that was only a question, and reports whether there was
// one.
func (s *server) takeLeave(backend *sock.Socket, err error) bool {
	if err != nil {
		return false
	}
	if s.cfg.ProxyProtocol != 0 {
		sendHeader(backend, proxyHeader(s.cfg.ProxyProtocol, wire.Address{}, wire.Address{}))
	}
	backend.Close()
	return true
}
