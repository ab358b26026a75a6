package carry

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// Account is where what is carried is counted.
type Account struct {
	In, Out  atomic.Int64 // bytes from and to clients
	Silenced func()       // a pair has become silent
	Used     func()       // it is not silent any more, or has ended
}

// silence is a pair's, for its loop alone. A connection on which no byte has
// moved for ConnectionIdleTimeout= does not keep the container up.
type silence struct {
	moved  int64     // bytes of both directions when last looked at
	since  time.Time // when that was first so
	silent bool      // counted as such
}

// Look finds out whether the connection has become silent, or is used again.
func (p *Pair) Look(now time.Time, timeout time.Duration) {
	moved := p.up.sent + p.down.sent
	switch {
	case moved != p.moved || p.since.IsZero():
		p.moved, p.since = moved, now
		p.Use()
	case !p.silent && now.Sub(p.since) >= timeout:
		p.silent = true
		p.account.Silenced()
	}
}

// Use counts the connection as one that is used.
func (p *Pair) Use() {
	if p.silent {
		p.silent = false
		p.account.Used()
	}
}

// hasWord reports whether either side has said something that was not read yet.
func (p *Pair) hasWord() bool {
	for _, f := range []*flow{&p.up, &p.down} {
		if !f.over && !f.pending() && sock.Ready(f.src.FD, unix.POLLIN) {
			return true
		}
	}
	return false
}

// LookAgain is look for a silent one, and sees also what was not read yet.
func (p *Pair) LookAgain(now time.Time, timeout time.Duration) {
	if !p.silent {
		return
	}
	p.Look(now, timeout)
	if p.hasWord() {
		p.Use()
	}
}

// EndSilent ends it if it is silent. The peers see an end in order, unless one of
// them did not take what the other had said.
func (p *Pair) EndSilent() {
	switch {
	case !p.silent || p.up.over && p.down.over:
	case p.up.pending() || p.down.pending():
		p.Cut()
	default:
		for _, f := range []*flow{&p.up, &p.down} {
			if !f.over {
				f.end(p.loop, nil, nil)
			}
		}
		p.update()
	}
}
