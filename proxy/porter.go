package proxy

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/head"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// Where it matters what clients say first, each is heard before it is held
// (WakeBy=, Probe=, IgnoreAgent=). Its bytes stay in the kernel meanwhile
// (recv(2), MSG_PEEK), so that whatever is not answered here is forwarded as it
// came. Until it is known for a client it stands apart: it wakes nothing and is no
// use.

const (
	// firstWord is how long a client may say nothing before it is taken for one
	// whose server speaks first, unless WakeBy=data.
	firstWord = time.Second
	// atOnce is how soon most clients say something.
	atOnce = 50 * time.Millisecond
	// maxSilence is how long it may with WakeBy=data, and how long it may after an
	// answer.
	maxSilence = time.Minute
	// maxSilent may say nothing at a time. Then the eldest leave before.
	maxSilent = 1024
	// grace is how long nobody is closed for having said nothing: the first bytes
	// may be on their way, and may have to be sent twice (RFC 6298: after a second).
	grace = 2 * time.Second
	// headPatience is how long a head may take to come from its first byte on. What
	// takes longer is forwarded.
	headPatience = 10 * time.Second
)

// porter hears clients.
type porter struct {
	*server
	buffers  sync.Pool    // of *[head.Max]byte
	deciding atomic.Int64 // clients who have spoken, or just come, and may turn out to be a use
	noticed  atomic.Bool  // see noticeWake
	// patience is headPatience, but for tests on a busy machine.
	patience time.Duration

	mu      sync.Mutex
	silent  list.List // of *silentClient, who has been so for longest first
	leaving bool      // the proxy ends: nobody stays for longer than grace
	crowded bool      // so it is while somebody waits to be accepted
}

// newPorter is nil if nobody looks at what clients say.
func (s *server) newPorter() *porter {
	if !s.cfg.LooksAt() {
		return nil
	}
	p := &porter{server: s, patience: headPatience}
	p.buffers.New = func() any { return new([head.Max]byte) }
	return p
}

// silentClient is one that is to speak.
type silentClient struct {
	client *sock.Socket
	since  time.Time
	until  time.Time // zero: for as long as it likes
}

// word is what a client has said.
type word struct {
	meaning
	request head.Request // of a probe
}

type meaning int

const (
	nothing meaning = iota // as yet
	part                   // the beginning of a request
	quiet                  // nothing in time
	ended                  // it has ended, or its connection has
	forApp                 // bytes for the app
	aProbe                 // a request that wakes nothing
	aPoll                  // the page's question
	aVisit                 // a request of a browser that could be shown a page
)

// hears reports whether it matters now what clients of a target say.
func (p *porter) hears(t *target) bool {
	return p.cfg.ByData || p.reads(t)
}

// reads reports whether that are heads of requests.
func (p *porter) reads(t *target) bool { return p.cfg.ReadsHeads() || p.mayVisit(t) }

// take hears a client that was just accepted and counted in. While the app is there,
// one that is for the app, and says so at once, costs no goroutine: the loop that is
// to carry it waits for its first word.
func (p *porter) take(c *connection) {
	c.apart = true
	p.activity.setApart()
	p.begin(c)
	if c.starter.isDone() && c.target.proven.Load() {
		c.loop = p.loops.Next()
		if c.loop.AwaitFirst(c.client, atOnce, func() { p.meetFirst(c) }) == nil {
			return
		}
	}
	go p.attend(c)
}

// meetFirst is called by the loop.
func (p *porter) meetFirst(c *connection) {
	if p.listen(c.client.FD, c.target).meaning != forApp {
		c.loop.Remove(c.client)
		go p.attend(c)
		return
	}
	c.fresh = false
	p.use(c)
	p.deciding.Add(-1)
	if backend := c.promptly(); backend != nil {
		c.carry(backend)
		return
	}
	c.loop.Remove(c.client)
	go c.hold()
}

// begin counts a client that is about to be heard.
func (p *porter) begin(c *connection) {
	c.fresh = true
	p.deciding.Add(1)
}

// decided is called once it is counted as what it is.
func (p *porter) decided(w word) {
	if w.meaning >= forApp {
		p.deciding.Add(-1)
	}
}

// hearAfterAll hears a client that was counted as a use when it came.
func (p *porter) hearAfterAll(c *connection) {
	p.begin(c)
	c.apart = true
	p.activity.setApart()
	p.attend(c)
}

// attend hears a client until it is clear what it is.
func (p *porter) attend(c *connection) {
	limit := firstWord
	if p.cfg.ByData {
		limit = maxSilence
	}
	for since := c.accepted; ; since, limit = time.Now(), maxSilence {
		answered := since != c.accepted
		w := p.hear(c, since, limit, nil)
		switch {
		case w.meaning == aProbe && p.isAwake():
			p.decided(w)
			p.relay(c, w.request)
			return
		case w.meaning == aPoll && !p.mayWait(c.target):
			p.tellAwake(c, w.request)
			p.decided(w)
		case w.meaning >= aPoll:
			p.meet(c, w)
			return
		case w.meaning == aProbe:
			again := p.answer(c, w.request)
			p.decided(w)
			if again {
				continue
			}
		case c.hard.Err() != nil:
			p.decided(w)
		case w.meaning == forApp, w.meaning == quiet && !p.cfg.ByData && !answered:
			p.use(c)
			p.decided(w)
			c.hold()
			return
		case w.meaning == ended && !p.cfg.ByData && !answered: // a connection, though a short one
			p.use(c)
			p.background(func() { _ = p.starter.start(p.hard) })
		}
		c.client.Close()
		c.end()
		return
	}
}

// use counts a client as one that keeps the container up, from now on.
func (p *porter) use(c *connection) {
	c.apart, c.heard = false, true
	p.activity.rejoin()
	p.activity.came(c.client.Waited())
	c.holdFrom(time.Now())
}

// isAwake reports whether the app is there to answer. A container that was not
// started for a client may stop again by itself.
func (p *porter) isAwake() bool {
	if !p.activity.isReached() {
		return false
	}
	if p.starter.isDone() {
		return true
	}
	_, err := p.cgroup.ID()
	return err == nil
}

// hear waits until it is known what a client says next, and no longer than until
// over is closed. Who has said nothing since the given time may do so for limit, or
// for ever if that is 0.
func (p *porter) hear(c *connection, since time.Time, limit time.Duration, over <-chan struct{}) word {
	file, _ := c.client.Poller()
	defer context.AfterFunc(c.hard, c.client.Wake)()
	defer func() { _ = file.SetReadDeadline(time.Time{}) }() // somebody may write meanwhile
	w := p.awaitWord(c, since, limit, over)
	if w.meaning != part {
		return w
	}
	_ = file.SetReadDeadline(time.Now().Add(p.patience))
	if c.hard.Err() == nil {
		w = p.await(c, part)
	}
	switch w.meaning {
	case part, nothing:
		w.meaning = forApp // it takes its time
	case ended:
		p.deciding.Add(-1)
	}
	return w
}

// awaitWord waits for the first byte.
func (p *porter) awaitWord(c *connection, since time.Time, limit time.Duration, over <-chan struct{}) word {
	at := p.enter(c, since, limit)
	defer p.exit(at)
	if c.hard.Err() != nil {
		return word{meaning: ended}
	}
	select {
	case <-over:
		return word{meaning: quiet}
	default:
	}
	w := p.await(c, nothing)
	if w.meaning == nothing {
		w = p.listen(c.client.FD, c.target) // the time may have been over before anybody looked
	}
	switch {
	case w.meaning == nothing:
		w.meaning = quiet
	case w.meaning == part, w.meaning >= forApp:
		p.deciding.Add(1)
	}
	return w
}

// await returns what more than so much is said, or so much when the time is over.
// The poller tells of each arrival, also while earlier bytes are there (epoll(7),
// EPOLLET).
func (p *porter) await(c *connection, than meaning) (w word) {
	_, raw := c.client.Poller()
	_ = raw.Read(func(fd uintptr) bool {
		w = p.listen(int(fd), c.target)
		return w.meaning > than
	})
	return w
}

// listen finds out what was said so far.
func (p *porter) listen(fd int, t *target) word {
	reads := p.reads(t)
	b := p.buffers.Get().(*[head.Max]byte)
	defer p.buffers.Put(b)
	const usual = 4096 // most heads are shorter
	n, err := sock.Peek(fd, b[:usual])
	if n == usual && reads {
		n, err = sock.Peek(fd, b[:])
	}
	switch {
	case err == unix.EAGAIN:
		return word{meaning: nothing}
	case err != nil, n == 0:
		return word{meaning: ended}
	case !reads:
		return word{meaning: forApp}
	}
	r, err := head.Read(b[:n])
	switch {
	case errors.Is(err, head.ErrIncomplete) && !sock.Ready(fd, unix.POLLRDHUP):
		return word{meaning: part}
	case err == nil && r.Polls && p.visits != nil:
		return word{aPoll, r.Bare()}
	case err == nil && !r.Polls && (head.MatchPath(p.cfg.Probes, r.Path) || head.MatchAgent(p.cfg.IgnoreAgents, r.Agent)):
		return word{aProbe, r.Bare()}
	case err == nil && r.Navigates && p.mayVisit(t):
		return word{aVisit, r}
	}
	return word{meaning: forApp}
}

// enter puts a client among the silent ones, and sets how long it may be.
func (p *porter) enter(c *connection, since time.Time, limit time.Duration) *list.Element {
	w := &silentClient{client: c.client, since: since}
	if limit > 0 {
		w.until = since.Add(limit)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.silent.PushBack(w)
	if c.fresh {
		c.fresh = false
		p.deciding.Add(-1)
	}
	file, _ := c.client.Poller()
	_ = file.SetReadDeadline(w.until)
	if p.leaving || p.crowded {
		w.hasten()
	}
	if p.silent.Len() > maxSilent {
		p.hastenEldest()
	}
	return at
}

func (p *porter) exit(at *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent.Remove(at)
}

// hasten has a client leave as soon as it may have to.
func (w *silentClient) hasten() {
	if soon := w.since.Add(grace); w.until.IsZero() || soon.Before(w.until) {
		w.until = soon
		file, _ := w.client.Poller()
		_ = file.SetReadDeadline(soon)
	}
}

// hastenEldest is for the one that has been silent for longest of those that were
// not told before.
func (p *porter) hastenEldest() {
	for at := p.silent.Front(); at != nil; at = at.Next() {
		w := at.Value.(*silentClient)
		if before := w.until; before.IsZero() || before.After(w.since.Add(grace)) {
			w.hasten()
			return
		}
	}
}

// makeRoom has those who say nothing leave for who waits to be accepted, until that
// is over.
func (s *server) makeRoom(crowded bool) {
	if s.porter != nil {
		s.porter.mu.Lock()
		defer s.porter.mu.Unlock()
		if s.porter.crowded = crowded; crowded {
			s.porter.hastenAll()
		}
	}
}

func (p *porter) hastenAll() {
	for at := p.silent.Front(); at != nil; at = at.Next() {
		at.Value.(*silentClient).hasten()
	}
}

// settle gives those whose first bytes may be on their way the time for that,
// before the proxy ends because it is idle. They keep nobody out: who comes meanwhile
// is let in, as long as there is time for that one, too, or somebody is heard anyway.
func (s *server) settle() {
	if s.porter == nil {
		return
	}
	for began := time.Now(); !s.activity.busy() && s.porter.unsettled(time.Since(began)); {
		letIn := hasClient(s.waiting()) && (time.Since(began) < grace || s.porter.deciding.Load() > 0)
		if letIn {
			s.resume()
		}
		err := sock.Rest(s.hard, 10*time.Millisecond)
		if letIn {
			s.pause()
		}
		if err != nil {
			return
		}
	}
}

// unsettled reports whether somebody may still turn out to be a use, after having
// waited for that.
func (p *porter) unsettled(waited time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := p.silent.Front(); at != nil; at = at.Next() {
		w := at.Value.(*silentClient)
		if waited < p.patience && sock.Ready(w.client.FD, unix.POLLIN) || waited < 2*grace && time.Since(w.since) < grace {
			return true
		}
	}
	return waited < grace+p.patience && p.deciding.Load() > 0
}

// endPorter closes those who say nothing.
func (s *server) endPorter() {
	if s.porter == nil {
		return
	}
	s.porter.mu.Lock()
	defer s.porter.mu.Unlock()
	s.porter.leaving = true
	s.porter.hastenAll()
}

// foundSoon is how long it may take to find out whether the app is there: root's entry
// has to start for that. An app that is not says so at once.
const foundSoon = 10 * time.Second

// findAwake finds out, before anybody is let in, whether somebody else keeps the
// container up, and its app accepts. That is no wake.
func (s *server) findAwake() {
	if s.porter == nil || s.starter.isDone() || s.porter.noticed.Load() {
		return
	}
	if _, err := s.cgroup.ID(); err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.hard, foundSoon)
	defer cancel()
	if t := s.asked(); t == nil || s.takeLeave(t.within(ctx, t.try(ctx, netip.AddrPort{}))) {
		s.wake.Do(func() { close(s.activity.reached) })
	}
}

// noticeWake finds out that somebody else has had the container started: another
// unit, or zerolet wake. That is a wake, too.
func (s *server) noticeWake() {
	if s.porter == nil || s.activity.isReached() || s.starter.asked.Load() {
		return
	}
	if _, err := s.cgroup.ID(); err != nil || !s.porter.noticed.CompareAndSwap(false, true) {
		return
	}
	s.wakes()
	s.background(func() {
		defer s.porter.noticed.Store(false)
		ctx, cancel := context.WithTimeout(s.hard, s.cfg.StartTimeout)
		defer cancel()
		if s.askApp(ctx) {
			s.reached(func() string { return "" })
		}
	})
}

// wakes takes note that the container is being started.
func (s *server) wakes() {
	now := time.Now()
	s.activity.wakes.CompareAndSwap(0, max(1, int64(now.Sub(s.activity.start))))
	s.activity.touch(now)
	s.activity.stay(s.cfg.StayAwake)
}
