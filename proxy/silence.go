package proxy

import (
	"time"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/wire"
)

// watchSilence looks at all connections from time to time, so that carrying a
// byte costs nothing more. A connection is found silent late by at most an
// eighth of the time, or a second.
func (s *server) watchSilence() {
	tick := time.NewTicker(min(max(s.cfg.ConnectionIdleTimeout/8, time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.freezing.awaitThaw(s.ending)
			s.loops.Pairs(func(p *carry.Pair) { p.Look(now, s.cfg.ConnectionIdleTimeout) })
		case <-s.ending:
			return
		}
	}
}

// lookAgain finds the silent connections whose bytes have come since they were
// last looked at. After it, silent means silent until now.
func (s *server) lookAgain() {
	if s.cfg.ConnectionIdleTimeout == wire.Infinity {
		return
	}
	now := time.Now()
	s.loops.Pairs(func(p *carry.Pair) { p.LookAgain(now, s.cfg.ConnectionIdleTimeout) })
}

// endSilent ends the silent connections.
func (s *server) endSilent() {
	s.lookAgain()
	s.loops.Pairs((*carry.Pair).EndSilent)
}
