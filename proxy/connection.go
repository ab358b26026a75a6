package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// shared is what the connections of a proxy have in common.
type shared struct {
	cfg      wire.Config
	activity *activity
	record   *report.Recorder
	loops    *carry.Loops
	starter  *starter
	porter   *porter // nil if nobody looks at what clients say
	visits   *visits // nil if no page is shown
	slots    slots   // for all that are open
	// They are defaultResetGrace and defaultAnswerPatience, but for tests.
	resetGrace, answerPatience time.Duration

	hard        context.Context // ends what goes on at once
	connections sync.WaitGroup
	wake        sync.Once
	thawing     thawing
}

// connection is the life of one client's connection. A goroutine has it only
// while it is held, and while it ends in another way than in order: what is
// carried belongs to its loop.
type connection struct {
	*shared
	target   *target
	client   *sock.Socket
	peer     wire.Address
	accepted time.Time
	deadline time.Time // for the app to accept; zero: none
	retried  bool
	held     bool        // has room among those of the target
	apart    bool        // is no use
	heard    bool        // it is known that it is one
	fresh    bool        // is counted among those to decide on until it is among the silent ones
	begun    bool        // the app was sent bytes of it before it was carried
	loop     *carry.Loop // nil as long as it has none
}

// admit takes a client that was just accepted and counted in. Nobody waits for
// what becomes of it: to dial may take a while, if the app's backlog is full or
// a helper is slow.
func (s *server) admit(l *listener, fd int, peer wire.Address) {
	c := &connection{
		shared: &s.shared, target: s.targets[l.forward.Listen], client: sock.New(fd), peer: peer,
		accepted: time.Now(), held: true,
	}
	c.holdFrom(c.accepted)
	s.connections.Add(1)
	if s.porter != nil && s.porter.hears(c.target) {
		s.porter.take(c)
		return
	}
	s.activity.came(c.client.Waited())
	if backend := c.promptly(); backend != nil {
		if !c.thawing.isOver() {
			c.reached(c.name)
		}
		c.carry(backend)
		return
	}
	go c.hold()
}

// holdFrom has the client wait for the app from a time on.
func (c *connection) holdFrom(now time.Time) {
	c.accepted = now
	if c.cfg.StartTimeout != wire.Infinity {
		c.deadline = now.Add(c.cfg.StartTimeout)
	}
}

// promptly returns a connection to the app if nobody has to wait for it.
func (c *connection) promptly() *sock.Socket {
	if !c.starter.isDone() {
		return nil
	}
	return c.target.promptly(c.peer.IP)
}

// reached is called when the app has taken a client.
func (s *shared) reached(peer func() string) {
	if took, isFirst := s.thawing.end(); isFirst {
		s.record.Thaw(peer(), took)
		s.wake.Do(func() { close(s.activity.reached) })
		return
	}
	s.wake.Do(func() {
		took := s.activity.since()
		s.record.Wake(peer(), took)
		if s.starter.isDone() { // else nobody knows when it began
			s.remember(took)
		}
		close(s.activity.reached)
	})
}

// end counts the connection out.
func (c *connection) end() {
	c.release()
	if c.apart {
		c.activity.rejoin()
		c.activity.open.Add(-1)
	} else {
		c.activity.end()
	}
	c.slots.leave()
	c.connections.Done()
}

// release makes room for another client to be held.
func (c *connection) release() {
	if c.held {
		c.held = false
		c.target.held.leave()
	}
}

// hold waits for the app, and has the connection carried.
func (c *connection) hold() {
	backend, err := c.reach()
	if errors.Is(err, errUnheard) {
		c.porter.hearAfterAll(c)
		return
	}
	if err != nil {
		c.explain(err)
		c.client.Reset()
		c.end()
		return
	}
	c.enterApp(backend)
}

// enterApp is for who was held, and is let in.
func (c *connection) enterApp(backend *sock.Socket) {
	if c.resetGrace > 0 && !c.target.proven.Load() {
		backend.AwaitWord(c.resetGrace)
	}
	c.reached(c.name)
	c.carry(backend)
}

// quickly is how long an app that is there takes to accept, but for a full
// backlog.
const quickly = 20 * time.Millisecond

// errUnheard says that the app is not there after all, and nobody knows yet whether
// the client could be shown a page.
var errUnheard = errors.New("not heard yet")

// reach returns a connection to the app. It holds the client until then, but not
// past the deadline, or the client's own end. While the app is there it takes no
// time, and then not even a look at the client.
func (c *connection) reach() (*sock.Socket, error) {
	var slow attempt
	if c.starter.isDone() && c.target.open.Load() {
		first := c.target.try(c.hard, c.peer.IP)
		switch backend, err, over := first.soon(quickly); {
		case !over:
			slow = first
		case err == nil:
			return backend, nil
		case c.visits != nil && !c.heard:
			return nil, errUnheard
		}
	}
	ctx, release := heldContext(c.hard, c.client, c.deadline)
	defer release()
	if slow != nil {
		if backend, err := c.target.within(ctx, slow); err == nil {
			return backend, nil
		}
	}
	if err := c.starter.start(ctx); err != nil {
		return nil, err
	}
	return c.target.reach(ctx, c.peer.IP, c.accepted)
}

// carry hands the connection to a loop.
func (c *connection) carry(backend *sock.Socket) {
	c.release()
	c.introduce(backend)
	c.join(backend)
}

// join has a loop carry what comes from now on.
func (c *connection) join(backend *sock.Socket) {
	if c.loop == nil {
		c.loop = c.loops.Next()
	}
	p := carry.NewPair(c.client, backend, c.loop, &c.activity.Account, func() { c.target.proven.Store(true) })
	p.Start(func() { c.carried(p) })
}

// carried is called by the loop when both directions have ended.
func (c *connection) carried(p *carry.Pair) {
	p.Use()
	if p.Err() != nil {
		go c.finish(p)
		return
	}
	p.Close()
	c.end()
}

// finish ends a connection that did not end in order, or lets the client, if
// its backend reset it unheard, wait for another one.
func (c *connection) finish(p *carry.Pair) {
	if p.Unheard() && !c.begun && !c.target.proven.Load() && c.tryAgain() {
		p.Backend.Close()
		c.hold()
		return
	}
	p.Finish(c.hard)
	c.end()
}

// tryAgain decides whether a client whose backend reset it unheard gets
// another one. With the first reset the time for that begins to run.
func (c *connection) tryAgain() bool {
	c.client.Unwake()
	patience := time.Now().Add(resetPatience)
	if !c.retried && (c.deadline.IsZero() || patience.Before(c.deadline)) {
		c.deadline = patience
	}
	c.retried = true
	if !c.deadline.IsZero() && time.Now().After(c.deadline) {
		return false
	}
	if c.held = c.target.held.enter(); !c.held {
		return false // to keep it would be to keep any number
	}
	return sock.Rest(c.hard, pause(time.Since(c.accepted))) == nil
}

// name is who the client is, for the journal.
func (c *connection) name() string { return sock.PeerName(c.client, c.peer) }

// explain says in the journal why a client got nothing, if that is news: a
// client that left knows, and who stops the proxy knows too.
func (c *connection) explain(err error) {
	switch {
	case errors.Is(err, errTooLate):
		c.record.TurnedAway(c.name(), fmt.Sprintf("%s did not accept on %s in time (%v)",
			c.cfg.Container, c.target.addr, c.target.why()))
	case errors.Is(err, context.Canceled):
		c.record.Stopped(c.name())
	}
}
