package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/head"
	"github.com/zerolet/zerolet/proxy/internal/page"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// A browser that comes to a service that is not there yet gets a page at once
// (WaitingPage=), and comes again. Nobody is connected meanwhile, so the wake is
// remembered here: it keeps the container up until the app is there, and for as
// long as it takes the browser to find out.

const (
	// lookEvery is how often to look whether the container has failed.
	lookEvery = time.Second
	// fileTick is how much the time of a file may be behind (CONFIG_HZ;
	// current_time() in fs/inode.c).
	fileTick = 20 * time.Millisecond
	// returns is how long a browser may take to come again.
	returns = 10 * time.Second
	// polls is for how long after a page its question is heard. Browsers have a page
	// that nobody sees ask once a minute.
	polls = 2 * time.Minute
)

// visits is what there is to show.
type visits struct {
	page *page.Page
	past *page.Past

	going atomic.Bool // a wake of a page's goes on
	mu    sync.Mutex
	began time.Time
	why   string // the last one has failed
}

// newVisits is nil if there is no page.
func (s *server) newVisits() *visits {
	if !s.cfg.WaitingPage {
		return nil
	}
	w := &visits{page: page.New()}
	if s.cfg.WaitingPageFile != "" {
		if p, err := page.Read(s.cfg.WaitingPageFile); err == nil {
			w.page = p
		} else {
			s.record.Warn(fmt.Sprintf("WaitingPageFile=: %v; zerolet's own page is shown", err))
		}
	}
	var err error
	if w.past, err = page.ReadPast(s.cfg.WakeTimes); err != nil {
		s.record.Warn(fmt.Sprintf("how long wakes took is not known: %v", err))
	}
	return w
}

// mayWait reports whether a client that comes now would have to, so that a page
// would be shown.
func (p *porter) mayWait(t *target) bool {
	return p.visits != nil && (!p.isAwake() || !t.open.Load())
}

// mayVisit reports whether who comes now may be shown a page, or be one that asks.
func (p *porter) mayVisit(t *target) bool {
	return p.mayWait(t) || p.visits != nil && time.Since(time.Unix(0, t.shown.Load())) < polls
}

// meet lets a browser in if the app is there after all, or shows the page.
func (p *porter) meet(c *connection, w word) {
	if w.meaning == aVisit {
		if backend := p.there(c); backend != nil {
			p.use(c)
			p.decided(w)
			c.enterApp(backend)
			return
		}
	}
	p.wakeFor(c)
	p.decided(w)
	p.show(c, w.request)
	c.client.Close()
	c.end()
}

// there returns a connection to the app if that accepts at once.
func (p *porter) there(c *connection) *sock.Socket {
	if !p.isAwake() || !c.target.open.Load() {
		return nil
	}
	a := c.target.try(c.hard, c.peer.IP)
	backend, err, over := a.soon(quickly)
	if !over {
		now, cancel := context.WithCancel(c.hard)
		cancel()
		backend, err = c.target.within(now, a)
	}
	if err != nil {
		return nil
	}
	return backend
}

// show answers with the page. It is no answer to keep, nor is the connection: the
// next one may be for the app.
func (p *porter) show(c *connection, r head.Request) {
	r.Last = true
	c.target.shown.Store(time.Now().UnixNano())
	wake := p.visits.wake(strings.TrimSuffix(p.cfg.Container, ".service"))
	wake.Waits, wake.Target = p.waits(c.target), r.Target
	r = r.Bare()
	fields := "HTTP/1.1 503 Service Unavailable\r\nDate: " + time.Now().UTC().Format(httpDate) +
		fmt.Sprintf("\r\nRetry-After: %d\r\nZerolet-State: %s\r\n", wake.RetryAfter(), wake.State()) +
		"Cache-Control: no-store\r\nContent-Type: text/html; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
	if p.visits.page.Own {
		fields += "Content-Security-Policy: " + policy + "\r\n"
	}
	p.say(c, r, fields, p.visits.page.Text(wake))
}

// tellAwake answers the page that the app is there. The browser asks for what it wants
// itself, once: the address may be good for no more than that.
func (p *porter) tellAwake(c *connection, r head.Request) {
	r.Last = true
	p.say(c, r, "HTTP/1.1 200 OK\r\nDate: "+time.Now().UTC().Format(httpDate)+"\r\nZerolet-State: awake\r\nCache-Control: no-store\r\n", noBody)
}

// policy allows the page what it needs, which is nothing from elsewhere.
const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"

// wake is what is known of the wake that goes on.
func (w *visits) wake(name string) page.Wake {
	w.mu.Lock()
	defer w.mu.Unlock()
	return page.Wake{Name: name, Reason: w.why, Elapsed: time.Since(w.began), Usual: w.past.Usual()}
}

// waits tells for what.
func (p *porter) waits(t *target) string {
	switch why := t.why(); {
	case why != nil && !errors.Is(why, reach.ErrNoContainer):
		return "the app to answer"
	case p.cfg.GivesWay:
		return "its turn, and its container to start"
	case len(p.cfg.Members) > 0:
		return "its containers to start"
	}
	return "its container to start"
}

// wakeFor has the container started for who is shown the page, and keeps it up until
// the app is there.
func (p *porter) wakeFor(c *connection) {
	w := p.visits
	if !w.going.CompareAndSwap(false, true) {
		return
	}
	w.mu.Lock()
	w.began = time.Now()
	w.mu.Unlock()
	p.activity.waking.Add(1)
	name, target := c.name(), c.target
	p.background(func() {
		defer func() {
			p.activity.touch(time.Now())
			p.activity.waking.Add(-1)
			w.going.Store(false)
		}()
		ctx, cancel := context.WithTimeout(p.hard, p.cfg.StartTimeout)
		defer cancel()
		go p.lookOn(ctx)
		err := p.starter.start(ctx)
		if err == nil && p.askTarget(ctx, target) {
			w.ended("")
			p.reached(func() string { return name })
			cancel()
			_ = sock.Rest(p.hard, returns-p.cfg.IdleTimeout)
			return
		}
		if p.hard.Err() != nil {
			return
		}
		why := fmt.Sprintf("%s did not accept on %s in time", p.cfg.Container, target.addr)
		w.ended(why)
		p.record.TurnedAway(name, fmt.Sprintf("%s (%v)", why, target.why()))
	})
}

// ended takes note of how a wake did.
func (w *visits) ended(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why = why
}

// remember takes note of how long a wake took.
func (s *shared) remember(took time.Duration) {
	if s.visits == nil {
		return
	}
	if err := s.visits.past.Add(took); err != nil {
		s.record.Retrying(fmt.Errorf("how long this wake took is not kept: %w", err))
	}
}

// lookOn finds out whether the container fails, until ctx ends. Its unit never runs if
// what it needs has failed, and tells nothing then: its start is over, and it is not
// there, nor a moment later.
func (p *porter) lookOn(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	const moment = 3
	for missed := 0; ; {
		missed++
		if _, err := p.cgroup.ID(); err == nil || !p.starter.isDone() {
			missed = 0
		}
		switch why := p.failure(); {
		case why != "":
			p.visits.ended(why)
		case missed >= moment:
			p.visits.ended(p.cfg.Container + " does not start. What it needs may have failed.")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// failure is how the container's unit, or one of its pod's, has failed since the wake
// began, "" if none has.
func (p *porter) failure() string {
	for _, unit := range append([]string{p.cfg.Container}, p.cfg.Members...) {
		if why := p.failureOf(unit); why != "" {
			return why
		}
	}
	return ""
}

// failureOf is that of one. The unit itself has written that down when it ended:
// systemd's $SERVICE_RESULT, $EXIT_CODE and $EXIT_STATUS (systemd.exec(5)).
func (p *porter) failureOf(unit string) string {
	path := filepath.Join(p.cfg.WakeResult, unit)
	info, err := os.Stat(path)
	if err != nil || info.ModTime().Add(fileTick).Before(p.visits.beganAt()) {
		return ""
	}
	text, err := os.ReadFile(path)
	words := strings.Fields(string(text))
	if err != nil || len(words) == 0 || words[0] == "success" {
		return ""
	}
	why := fmt.Sprintf("%s has failed: %s", unit, words[0])
	if len(words) == 3 {
		why += fmt.Sprintf(" (%s, %s)", words[1], words[2])
	}
	return why + "."
}

func (w *visits) beganAt() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began
}
