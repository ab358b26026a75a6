package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// resetPatience bounds how long a connection is tried again with an app that
// accepts it and then resets it unheard. An app that is starting does that for
// a moment, one that does it on purpose does it for ever.
const resetPatience = 30 * time.Second

// defaultResetGrace is how long an app that has not answered anybody yet is given to
// reset a connection before it is sent the client's first bytes: once it may
// have read them, they cannot be given to another.
const defaultResetGrace = 3 * time.Millisecond

var (
	errClientGone = errors.New("the client is gone")
	errTooLate    = errors.New("start timeout")
)

// target is where an app listens, and what its connections share.
type target struct {
	addr    wire.Address
	addrs   []wire.Address
	source  reach.Source
	failing func(error) // told why a dial failed, if not by the app's starting

	// open lets each connection dial for itself. Without it they go through
	// asking one by one: a thousand held clients cost no more than one, and once
	// the app is there each gets through with one attempt.
	open   atomic.Bool
	asking chan struct{} // holds an element while somebody asks
	held   slots         // for those who wait

	background func(func()) // runs what may go on after its client has left

	probe *probe // asks whether the app is ready; nil if it is once it accepts

	shown atomic.Int64 // when a page was, the last time, in nanoseconds since the epoch

	proven  atomic.Bool // the app has answered somebody while open
	lastErr atomic.Pointer[error]
}

func newTarget(addr wire.Address, inside bool, source reach.Source, failing func(error)) *target {
	return &target{
		addr: addr, addrs: reach.Targets(addr, inside), source: source, failing: failing,
		asking: make(chan struct{}, 1), background: func(f func()) { go f() },
	}
}

// promptly returns a connection for a client if that can be had without any
// waiting, and the app has answered others before.
func (t *target) promptly(client netip.AddrPort) *sock.Socket {
	source := reach.Prompt(t.source)
	if source == nil || !t.open.Load() || !t.proven.Load() {
		return nil
	}
	backend, _ := t.connect(source, client)
	return backend // who may wait tries again
}

// dial tries once, for a client.
func (t *target) dial(client netip.AddrPort) (*sock.Socket, error) {
	backend, err := t.connect(t.source, client)
	if err != nil {
		t.failed(err)
		return nil, err
	}
	t.open.Store(true)
	return backend, nil
}

func (t *target) connect(source reach.Source, client netip.AddrPort) (*sock.Socket, error) {
	if !t.isKnownReady() {
		return nil, reach.ErrNotReady
	}
	backend, err := reach.Dial(source, t.addrs, client)
	if err == nil && !t.isKnownReady() { // another container by now
		backend.Close()
		return nil, reach.ErrNotReady
	}
	return backend, err
}

// isKnownReady does not ask.
func (t *target) isKnownReady() bool { return t.probe == nil || t.probe.isReady() }

// failed keeps the reason why a client cannot be let through.
func (t *target) failed(err error) {
	t.open.Store(false)
	t.proven.Store(false)
	t.missed(err)
}

// missed takes note of a failed dial.
func (t *target) missed(err error) {
	t.lastErr.Store(&err)
	if !reach.IsStarting(err) {
		t.failing(err)
	}
}

// why is the reason of the last failed dial.
func (t *target) why() error {
	if err := t.lastErr.Load(); err != nil {
		return *err
	}
	return nil
}

// reach asks until the app accepts or ctx ends. Those who ask take turns: one may
// fail for a reason of its own. Who waits since the given time rests accordingly.
func (t *target) reach(ctx context.Context, peer netip.AddrPort, since time.Time) (*sock.Socket, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case t.asking <- struct{}{}:
		}
		backend, err := t.within(ctx, t.try(ctx, peer))
		if err != nil {
			_ = sock.Rest(ctx, pause(time.Since(since)))
		}
		<-t.asking
		if err == nil {
			return backend, nil
		}
	}
}

// attempt is a dial under way.
type attempt chan dialled

type dialled struct {
	backend *sock.Socket
	err     error
}

// try begins to ask whether the app is ready, if need be, and to dial.
func (t *target) try(ctx context.Context, peer netip.AddrPort) attempt {
	a := make(attempt, 1)
	t.background(func() {
		var d dialled
		if d.err = t.isReady(ctx); d.err == nil {
			d.backend, d.err = t.dial(peer)
		}
		a <- d
	})
	return a
}

// soon waits for it, but not for long.
func (a attempt) soon(limit time.Duration) (backend *sock.Socket, err error, over bool) { //nolint:revive // err is the attempt's
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case d := <-a:
		return d.backend, d.err, true
	case <-timer.C:
		return nil, nil, false
	}
}

// within waits for an attempt until ctx ends. What comes later is for nobody.
func (t *target) within(ctx context.Context, a attempt) (*sock.Socket, error) {
	select {
	case d := <-a:
		return d.backend, d.err
	case <-ctx.Done():
		t.background(func() {
			if d := <-a; d.err == nil {
				d.backend.Reset()
			}
		})
		return nil, context.Cause(ctx)
	}
}

// heldContext ends with errTooLate at the deadline and with errClientGone when
// the client is. The client's reader is taken until release.
func heldContext(parent context.Context, client *sock.Socket, deadline time.Time) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.CancelFunc(func() {})
	if !deadline.IsZero() {
		ctx, stop = context.WithDeadlineCause(ctx, deadline, errTooLate)
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		if client.WaitGone() {
			cancel(errClientGone)
		}
	})
	return ctx, func() {
		client.Wake()
		watch.Wait()
		client.Unwake()
		stop()
		cancel(nil)
	}
}

// isReady asks the probe, if there is one.
func (t *target) isReady(ctx context.Context) error {
	if t.probe == nil {
		return nil
	}
	err := t.probe.ask(ctx)
	if err != nil && ctx.Err() == nil {
		t.failed(err)
	}
	return err
}

// pause is how long to rest between attempts after having waited for so long:
// it adds at most 3 % to the wait, costs at most 1,000 attempts a second at
// first and 40 later on.
func pause(waited time.Duration) time.Duration {
	return min(max(waited/32, time.Millisecond), 25*time.Millisecond)
}
