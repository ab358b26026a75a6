package service

import (
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Past is what happened to one service. systemd's own records say when its
// container ran, zerolet-proxy's who woke it.
type Past struct {
	Name     string    `json:"name"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Awake    []Period  `json:"awake"`
	Frozen   []Freeze  `json:"frozen"` // parts of these
	Wakes    []Wake    `json:"wakes"`
	Failures int       `json:"failures"` // records of clients turned away

	Rollbacks []Rollback `json:"rollbacks"`

	dependency        bool      // woken by systemd alone
	starting, started time.Time // of the container, the last time
	up, frozen        bool
}

// Freeze is a time in which the containers were frozen, and their memory in bytes:
// when it began, and what was left once memory had been reclaimed; 0 is not known.
type Freeze struct {
	Period
	Before int64 `json:"memoryBefore,omitempty"`
	After  int64 `json:"memoryAfter,omitempty"`
}

// Rollback is a newer image that failed at its first start: the one before is back.
type Rollback struct {
	Time  time.Time `json:"time"`
	Image string    `json:"image"`
}

// Period is a time in which the container ran.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Pasts are what happened to each of the services since a time, as far as the
// journal goes back.
func (h Host) Pasts(ctx context.Context, services []*Service, since, now time.Time) ([]*Past, error) {
	all := []*Past{}
	byProxy, byContainer := make(map[string]*Past), make(map[string]*Past)
	for _, s := range services {
		p := &Past{Name: s.Name, Awake: []Period{}, Frozen: []Freeze{}, Wakes: []Wake{}, dependency: s.Dependency()}
		all = append(all, p)
		byProxy[wire.Proxy.Of(s.Name)], byContainer[wire.Container.Of(s.Name)] = p, p
	}
	if len(all) == 0 {
		return all, nil
	}
	var last systemd.Entry
	err := h.Journal(ctx, h.pasts(byProxy, byContainer, since, now), func(e systemd.Entry) bool {
		if last != nil && last.Text("_BOOT_ID") != e.Text("_BOOT_ID") {
			for _, p := range all { // the power has failed
				p.end(last.Time())
			}
		}
		last = e
		p := byProxy[h.Sender(e)]
		if h.FromManager(e) {
			p = byContainer[e.About()]
		}
		if p != nil {
			p.add(e, since)
		}
		return true
	})
	for i, p := range all {
		p.close(services[i], since, now)
	}
	return all, err
}

// pasts asks for what the manager says of containers, and for what proxies say.
func (h Host) pasts(byProxy, byContainer map[string]*Past, since, until time.Time) systemd.Query {
	var proxies, containers []string
	if len(byProxy) <= few {
		proxies, containers = slices.Collect(maps.Keys(byProxy)), slices.Collect(maps.Keys(byContainer))
	}
	manager := append(h.Told(containers...), ids(systemd.Starting, systemd.Started, systemd.Stopped, systemd.Failed, systemd.NoStart)...)
	proxy := append(h.From(proxies...), ids(wire.WakeMessage, wire.FreezeMessage, wire.FailMessage)...)
	return systemd.Query{Since: since, Until: until, Fields: ofRecords, Match: [][]string{manager, proxy}}
}

// add is the next record.
func (p *Past) add(e systemd.Entry, since time.Time) {
	at := e.Time()
	if p.From.IsZero() {
		p.From = at
	}
	switch e.Text("MESSAGE_ID") {
	case systemd.Starting:
		p.begin(at)
		p.starting = at
	case systemd.Started:
		p.started = at
		if p.dependency && !p.starting.IsZero() {
			p.Wakes = append(p.Wakes, Wake{Time: at, Seconds: at.Sub(p.starting).Seconds()})
		}
	case systemd.Stopped, systemd.Failed, systemd.NoStart:
		if p.From.Equal(at) { // it has been up since before
			p.From = since
			p.begin(since)
		}
		p.end(at)
	case wire.WakeMessage:
		r := newRecord(e)
		p.thaw(at)
		p.Wakes = append(p.Wakes, Wake{at, r.Client(), coldStart(r, p.starting, p.started).Seconds(), r.Frozen})
	case wire.FreezeMessage:
		p.freeze(e)
	case wire.FailMessage:
		p.Failures++
	}
}

func (p *Past) begin(at time.Time) {
	if !p.up {
		p.Awake, p.up = append(p.Awake, Period{From: at}), true
	}
}

// freeze begins one, unless its end has been seen already: it is told once memory has
// been reclaimed.
func (p *Past) freeze(e systemd.Entry) {
	p.thaw(e.Time())
	p.frozen = true
	p.Frozen = append(p.Frozen, Freeze{Period{From: e.Time()}, e.Number(wire.FieldBefore), e.Number(wire.FieldAfter)})
}

func (p *Past) thaw(at time.Time) {
	if p.frozen {
		p.Frozen[len(p.Frozen)-1].To, p.frozen = at, false
	}
}

func (p *Past) end(at time.Time) {
	p.thaw(at)
	if p.up {
		p.Awake[len(p.Awake)-1].To, p.up = at, false
	}
}

// close ends the account with how the service stands now.
func (p *Past) close(s *Service, since, now time.Time) {
	runs := s.Container.Is("active", "activating", "reloading", "deactivating")
	if p.From.IsZero() && runs { // nothing has happened since before
		p.From = since
		p.begin(since)
	}
	if p.From.IsZero() {
		p.From = now
	}
	p.To = now
	p.end(now)
}

// Ran is the time in which the container ran.
func (p *Past) Ran() time.Duration {
	var sum time.Duration
	for _, a := range p.Awake {
		sum += a.To.Sub(a.From)
	}
	return sum
}

// WasFrozen is the part of that in which it was frozen.
func (p *Past) WasFrozen() time.Duration {
	var sum time.Duration
	for _, f := range p.Frozen {
		sum += f.To.Sub(f.From)
	}
	return sum
}

// Took is how long the wakes took, in seconds and in order: those from being frozen,
// or the cold ones.
func (p *Past) Took(frozen bool) []float64 {
	seconds := make([]float64, 0, len(p.Wakes))
	for _, w := range p.Wakes {
		if w.Frozen == frozen {
			seconds = append(seconds, w.Seconds)
		}
	}
	slices.Sort(seconds)
	return seconds
}

// Quantile is the smallest that so many of all do not exceed, of some that are in
// order.
func Quantile(seconds []float64, q float64) float64 {
	if len(seconds) == 0 {
		return math.NaN()
	}
	return seconds[max(0, int(math.Ceil(q*float64(len(seconds))))-1)]
}

// UsedIn is the time within another in which the container ran and was not frozen.
func (p *Past) UsedIn(from, to time.Time) time.Duration {
	var sum time.Duration
	for _, a := range p.Awake {
		sum += a.within(from, to)
	}
	for _, f := range p.Frozen {
		sum -= f.within(from, to)
	}
	return max(0, sum)
}

func (a Period) within(from, to time.Time) time.Duration {
	begin, end := a.From, a.To
	if begin.Before(from) {
		begin = from
	}
	if end.After(to) {
		end = to
	}
	return max(0, end.Sub(begin))
}
