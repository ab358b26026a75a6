package proxy

import (
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/wire"
)

// activity counts what keeps the container up. Everything may be called from
// any goroutine.
type activity struct {
	start    time.Time
	early    atomic.Int64 // nanoseconds before start that the first client has waited
	open     atomic.Int64 // connections, held ones included
	silent   atomic.Int64 // those of them that do not keep the container up
	apart    atomic.Int64 // those that are no use, as long as they are not: probes, and who has said nothing yet
	waking   atomic.Int64 // wakes that go on though nobody is connected
	held     atomic.Int64 // UDP sockets whose next datagram the app has not taken yet
	sessions atomic.Int64 // of UDP; they do not keep the container up, datagrams do
	accepted atomic.Int64 // connections and sessions
	lastEnd  atomic.Int64 // of a connection, or a datagram: nanoseconds since start
	wakes    atomic.Int64 // when the proxy had the container started: nanoseconds since start; 0: systemd has
	awake    atomic.Int64 // until then at least, however idle: nanoseconds since start

	carry.Account // bytes, and silent connections

	reached chan struct{} // closed when the first client has got through
}

func newActivity() *activity {
	a := &activity{start: time.Now(), reached: make(chan struct{})}
	a.Account = carry.Account{Silenced: a.silence, Used: a.unsilence}
	return a
}

// isReached reports whether the app has taken a client.
func (a *activity) isReached() bool {
	select {
	case <-a.reached:
		return true
	default:
		return false
	}
}

// begin counts a connection in. The accept loop calls it, so that after the
// loop's end the count holds everything that was accepted.
func (a *activity) begin() {
	a.accepted.Add(1)
	a.open.Add(1)
}

func (a *activity) end() {
	a.touch(time.Now())
	a.open.Add(-1)
}

// came takes how long a client has waited until it was accepted. systemd starts
// the container, and what that needs, before the proxy.
func (a *activity) came(waited time.Duration) {
	early := int64(waited - time.Since(a.start))
	for known := a.early.Load(); early > known && !a.early.CompareAndSwap(known, early); {
		known = a.early.Load()
	}
}

// since is how long the first client has waited.
func (a *activity) since() time.Duration {
	return time.Since(a.start) - time.Duration(a.wakes.Load()) + time.Duration(a.early.Load())
}

// touch is for what has no end: a datagram, in either direction.
func (a *activity) touch(now time.Time) { a.lastEnd.Store(int64(now.Sub(a.start))) }

// stay has the container stay up for a time from now on.
func (a *activity) stay(least time.Duration) {
	a.awake.Store(int64(time.Since(a.start) + least))
}

// silence counts a connection as if it had ended; unsilence takes that back, and
// must come before its end.
func (a *activity) silence() {
	a.touch(time.Now())
	a.silent.Add(1)
}

func (a *activity) unsilence() { a.silent.Add(-1) }

// setApart counts a connection as no use at all; rejoin takes that back, and must
// come before its end.
func (a *activity) setApart() { a.apart.Add(1) }

func (a *activity) rejoin() { a.apart.Add(-1) }

// busy reports whether anything keeps the container up.
func (a *activity) busy() bool {
	silent := a.silent.Load() + a.apart.Load() // first: one that ends meanwhile is counted as busy
	return a.open.Load() > silent || a.held.Load() > 0 || a.waking.Load() > 0
}

// untilIdle is how long it takes until the proxy has been idle for timeout, if
// nothing happens; not positive if it has. While busy it is the whole timeout,
// so whoever sleeps for it wakes in time and at most once in a timeout.
func (a *activity) untilIdle(timeout time.Duration) time.Duration {
	if a.busy() {
		return timeout
	}
	return a.idleFrom(timeout) - time.Since(a.start)
}

// idleFrom is when, since start, the proxy has been idle for timeout, and awake
// for long enough, if nobody comes.
func (a *activity) idleFrom(timeout time.Duration) time.Duration {
	return max(time.Duration(a.lastEnd.Load())+timeout, time.Duration(a.awake.Load()))
}

// idleAt is when the proxy has been idle for timeout, if nobody comes.
func (a *activity) idleAt(timeout time.Duration) time.Time {
	return a.start.Add(a.idleFrom(timeout))
}

// waitIdle returns when the idle time is over, when others have asked for the
// container's end, or when stop is closed. The answer is only a hint as long as
// connections are accepted; see server.pause.
func (a *activity) waitIdle(timeout time.Duration, stop, ask <-chan struct{}) (idle, asked bool) {
	for {
		left := wire.Infinity
		if timeout != wire.Infinity {
			if left = a.untilIdle(timeout); left <= 0 {
				return true, false
			}
		}
		over := time.After(left)
		select {
		case <-over:
		case <-ask:
			return false, true
		case <-stop:
			return false, false
		}
	}
}
