package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
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
	addr    Address
	addrs   []Address
	source  socketSource
	failing func(error) // told why a dial failed, if not by the app's starting

	// open lets each connection dial for itself. Without it they go through
	// asking one by one, and the first asks until the app accepts: a thousand
	// held clients cost no more than one, and once the app is there each gets
	// through with one attempt.
	open   atomic.Bool
	asking chan struct{} // holds an element while somebody asks

	probe *probe // asks whether the app is ready; nil if it is once it accepts

	proven  atomic.Bool // the app has answered somebody while open
	lastErr atomic.Pointer[error]
}

func newTarget(addr Address, inside bool, source socketSource, failing func(error)) *target {
	return &target{
		addr: addr, addrs: targetAddrs(addr, inside), source: source, failing: failing,
		asking: make(chan struct{}, 1),
	}
}

// dial tries once, for a client.
func (t *target) dial(client netip.AddrPort) (*socket, error) {
	if t.probe != nil && !t.probe.isReady() {
		t.failed(errNotReady)
		return nil, errNotReady
	}
	backend, err := dial(t.source, t.addrs, client)
	if err == nil && t.probe != nil && !t.probe.isReady() { // another container by now
		backend.close()
		err = errNotReady
	}
	if err == nil {
		t.open.Store(true)
		return backend, nil
	}
	t.failed(err)
	return nil, err
}

// failed keeps the reason why a client cannot be let through.
func (t *target) failed(err error) {
	t.open.Store(false)
	t.proven.Store(false)
	t.missed(err)
}

// missed takes note of a failed dial.
func (t *target) missed(err error) {
	t.lastErr.Store(&err)
	if !isStarting(err) {
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

// reach returns a connection to the app. It holds the client until then, but
// not past the deadline (zero: none), ctx, or the client's own end.
func (t *target) reach(ctx context.Context, client *socket, peer netip.AddrPort, deadline time.Time) (*socket, error) {
	if t.open.Load() {
		if backend, err := t.dial(peer); err == nil {
			return backend, nil
		}
	}
	ctx, release := heldContext(ctx, client, deadline)
	defer release()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case t.asking <- struct{}{}:
	}
	defer func() { <-t.asking }()
	return t.ask(ctx, peer)
}

// heldContext ends with errTooLate at the deadline and with errClientGone when
// the client is. The client's reader is taken until release.
func heldContext(parent context.Context, client *socket, deadline time.Time) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.CancelFunc(func() {})
	if !deadline.IsZero() {
		ctx, stop = context.WithDeadlineCause(ctx, deadline, errTooLate)
	}
	var watch sync.WaitGroup
	watch.Go(func() {
		if client.waitGone() {
			cancel(errClientGone)
		}
	})
	return ctx, func() {
		client.wake()
		watch.Wait()
		client.unwake()
		stop()
		cancel(nil)
	}
}

// ask dials until the app accepts or ctx ends.
func (t *target) ask(ctx context.Context, peer netip.AddrPort) (*socket, error) {
	began := time.Now()
	for {
		if t.isReady(ctx) {
			if backend, err := t.dial(peer); err == nil {
				return backend, nil
			}
		}
		if sleep(ctx, pause(time.Since(began))) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// isReady asks the probe, if there is one.
func (t *target) isReady(ctx context.Context) bool {
	if t.probe == nil {
		return true
	}
	err := t.probe.ask(ctx)
	if err != nil && ctx.Err() == nil {
		t.failed(err)
	}
	return err == nil
}

// pause is how long to rest between attempts after having waited for so long:
// it adds at most 3 % to the wait, costs at most 1,000 attempts a second at
// first and 40 later on.
func pause(waited time.Duration) time.Duration {
	return min(max(waited/32, time.Millisecond), 25*time.Millisecond)
}
