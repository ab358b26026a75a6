package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// silence is a pair's, for its loop alone. A connection on which no byte has
// moved for ConnectionIdleTimeout= does not keep the container up.
type silence struct {
	moved  int64     // bytes of both directions when last looked at
	since  time.Time // when that was first so
	silent bool      // counted as such
}

// watchSilence looks at all connections from time to time, so that carrying a
// byte costs nothing more. A connection is found silent late by at most an
// eighth of the time, or a second.
func (s *server) watchSilence() {
	tick := time.NewTicker(min(max(s.cfg.ConnectionIdleTimeout/8, time.Millisecond), time.Second))
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.loops.each(func(c carrier) {
				if p, ok := c.(*pair); ok {
					p.listen(now, s.cfg.ConnectionIdleTimeout)
				}
			})
		case <-s.ending:
			return
		}
	}
}

// listen finds out whether the connection has become silent, or speaks again.
func (p *pair) listen(now time.Time, timeout time.Duration) {
	moved := p.up.sent + p.down.sent
	switch {
	case moved != p.moved || p.since.IsZero():
		p.moved, p.since = moved, now
		p.speak()
	case !p.silent && now.Sub(p.since) >= timeout:
		p.silent = true
		p.activity.silence()
	}
}

// speak counts the connection as one that is used.
func (p *pair) speak() {
	if p.silent {
		p.silent = false
		p.activity.speak()
	}
}

// heed has connections speak whose bytes have come since they were last looked
// at. After it, silent means silent until now.
func (s *server) heed() {
	if s.cfg.ConnectionIdleTimeout == Infinity {
		return
	}
	now := time.Now()
	s.loops.each(func(c carrier) {
		if p, ok := c.(*pair); ok && p.silent {
			p.listen(now, s.cfg.ConnectionIdleTimeout)
			if p.hasWord() {
				p.speak()
			}
		}
	})
}

// hasWord tells whether either side has said something that was not read yet.
func (p *pair) hasWord() bool {
	for _, f := range []*flow{&p.up, &p.down} {
		if !f.over && !f.pending() && has(f.src.fd, unix.POLLIN) {
			return true
		}
	}
	return false
}

// hangUp ends the silent connections. The peers see an end in order, unless
// one of them did not take what the other had said.
func (s *server) hangUp() {
	s.heed()
	s.loops.each(func(c carrier) {
		p, ok := c.(*pair)
		switch {
		case !ok || !p.silent || p.up.over && p.down.over:
		case p.up.pending() || p.down.pending():
			p.cut()
		default:
			for _, f := range []*flow{&p.up, &p.down} {
				if !f.over {
					f.end(p.loop, nil, nil)
				}
			}
			p.settle()
		}
	})
}
