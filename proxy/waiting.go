package proxy

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/head"
	"github.com/zerolet/zerolet/proxy/internal/page"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// A browser that comes to a service that is not there yet gets a page at once
// (WaitingPage=), and comes again. Nobody is connected meanwhile, so the wake is
// remembered here: it keeps the container up until the app is there, and for as
// long as it takes the browser to find out.

const (
	// lookEvery is how often systemd is asked how the container does.
	lookEvery = time.Second
	// returns is how long a browser may take to come again.
	returns = 10 * time.Second
)

// visits is what there is to show.
type visits struct {
	page *page.Page
	past *page.Past

	going atomic.Bool // a wake of a page's goes on
	mu    sync.Mutex
	began time.Time
	unit  unitState
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

// meet lets a browser in if the app is there after all, or shows the page.
func (p *porter) meet(c *connection, w word) {
	if backend := p.there(c); backend != nil {
		p.use(c)
		p.decided(w)
		c.enterApp(backend)
		return
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
	wake := p.visits.wake(strings.TrimSuffix(p.cfg.Container, ".service"))
	wake.Waits, wake.Target = p.waits(), r.Target
	fields := "HTTP/1.1 503 Service Unavailable\r\nDate: " + time.Now().UTC().Format(httpDate) +
		fmt.Sprintf("\r\nRetry-After: %d\r\nZerolet-State: %s\r\n", wake.RetryAfter(), wake.State()) +
		"Cache-Control: no-store\r\nContent-Type: text/html; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
	if p.visits.page.Own {
		fields += "Content-Security-Policy: " + policy + "\r\n"
	}
	p.say(c, r, fields, p.visits.page.Text(wake))
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
func (p *porter) waits() string {
	p.visits.mu.Lock()
	unit := p.visits.unit
	p.visits.mu.Unlock()
	_, err := p.cgroup.ID()
	switch {
	case unit["SubState"] == "condition" && p.cfg.GivesWay:
		return "its turn: another service of its group is awake"
	case unit["ActiveState"] == "active", unit["ActiveState"] == "" && err == nil:
		return "the app to answer"
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
	w.unit = nil
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

// unitState is what systemd says of the container's unit.
type unitState map[string]string

// lookOn keeps up with the container until ctx ends.
func (p *porter) lookOn(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if unit := p.askUnit(ctx); unit != nil {
			p.visits.mu.Lock()
			p.visits.unit = unit
			if why := unit.failure(p.cfg.Container); why != "" {
				p.visits.why = why
			}
			p.visits.mu.Unlock()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// failure is why the unit has failed, "" if it has not.
func (u unitState) failure(name string) string {
	if result := u["Result"]; result != "" && result != "success" {
		return fmt.Sprintf("%s has failed: %s, status %s.", name, result, u["ExecMainStatus"])
	}
	return ""
}

// askUnit asks systemd, which tells everybody. Without it, less is shown.
func (p *porter) askUnit(ctx context.Context) unitState {
	args := []string{"show", "--property=ActiveState,SubState,Result,ExecMainStatus", "--", p.cfg.Container}
	if !filepath.IsAbs(p.cfg.Start) {
		args = append([]string{"--user"}, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).Output()
	if err != nil {
		return nil
	}
	unit := make(unitState)
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		unit[key] = value
	}
	return unit
}
