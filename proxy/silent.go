package proxy

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// account is where what is carried is counted.
type account struct {
	in, out  atomic.Int64 // bytes from and to clients
	silenced func()       // a pair has become silent
	used     func()       // it is not silent any more, or has ended
}

// silence is a pair's, for its loop alone. A connection on which no byte has
// moved for ConnectionIdleTimeout= does not keep the container up.
type silence struct {
	moved  int64     // bytes of both directions when last looked at
	since  time.Time // when that was first so
	silent bool      // counted as such
}

// look finds out whether the connection has become silent, or is used again.
func (p *pair) look(now time.Time, timeout time.Duration) {
	moved := p.up.sent + p.down.sent
	switch {
	case moved != p.moved || p.since.IsZero():
		p.moved, p.since = moved, now
		p.use()
	case !p.silent && now.Sub(p.since) >= timeout:
		p.silent = true
		p.account.silenced()
	}
}

// use counts the connection as one that is used.
func (p *pair) use() {
	if p.silent {
		p.silent = false
		p.account.used()
	}
}

// hasWord reports whether either side has said something that was not read yet.
func (p *pair) hasWord() bool {
	for _, f := range []*flow{&p.up, &p.down} {
		if !f.over && !f.pending() && sock.Ready(f.src.FD, unix.POLLIN) {
			return true
		}
	}
	return false
}

// lookAgain is look for a silent one, and sees also what was not read yet.
func (p *pair) lookAgain(now time.Time, timeout time.Duration) {
	if !p.silent {
		return
	}
	p.look(now, timeout)
	if p.hasWord() {
		p.use()
	}
}

// endSilent ends it if it is silent. The peers see an end in order, unless one of
// them did not take what the other had said.
func (p *pair) endSilent() {
	switch {
	case !p.silent || p.up.over && p.down.over:
	case p.up.pending() || p.down.pending():
		p.cut()
	default:
		for _, f := range []*flow{&p.up, &p.down} {
			if !f.over {
				f.end(p.loop, nil, nil)
			}
		}
		p.update()
	}
}
