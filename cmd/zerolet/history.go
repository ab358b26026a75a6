package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// past is what happened to one service. systemd's own records say when its
// container ran, zerolet-proxy's who woke it.
type past struct {
	Name     string       `json:"name"`
	From     time.Time    `json:"from"`
	To       time.Time    `json:"to"`
	Awake    []period     `json:"awake"`
	Wakes    []wakeReport `json:"wakes"`
	Failures int          `json:"failures"` // records of clients turned away

	dependency        bool      // woken by systemd alone
	starting, started time.Time // of the container, the last time
	up                bool
}

// period is a time in which the container ran.
type period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// history tells what happened to the services.
func (c *call) history(ctx context.Context) (int, error) {
	span, err := scale.ParseSpan(c.since)
	if err != nil || span == scale.Infinity {
		return exitUsage, failure{exitUsage, fmt.Sprintf("--since=%s is not a time span", c.since), "write it as 12h, 7d or 2weeks"}
	}
	services, err := c.services(ctx)
	if err != nil {
		return exitFailure, err
	}
	all, err := c.past(ctx, services, c.clock().Add(-span.Duration()))
	if err != nil {
		return exitFailure, err
	}
	if c.svg != "" {
		if err := os.WriteFile(c.svg, drawing(all), 0o644); err != nil {
			return exitFailure, err
		}
	}
	if c.json {
		encoder := json.NewEncoder(c.stdout)
		encoder.SetIndent("", "  ")
		return exitOK, encoder.Encode(struct {
			Version  int     `json:"version"`
			Services []*past `json:"services"`
		}{1, all})
	}
	for _, p := range all {
		if err := c.printf("%s: %s\n  %s\n", p.Name, p.summary(), p.timeline(c.ramp())); err != nil {
			return exitFailure, err
		}
	}
	return exitOK, c.scale(all)
}

// past reads the journal.
func (c *call) past(ctx context.Context, services []*service, since time.Time) ([]*past, error) {
	if len(services) == 0 {
		return []*past{}, nil
	}
	var all []*past
	var proxies, containers []string
	byUnit := make(map[string]*past)
	for _, s := range services {
		p := &past{Name: s.name, Awake: []period{}, Wakes: []wakeReport{}, dependency: s.dependency()}
		all = append(all, p)
		proxies, containers = append(proxies, wire.Proxy.Of(s.name)), append(containers, wire.Container.Of(s.name))
		byUnit[wire.Container.Of(s.name)], byUnit[wire.Proxy.Of(s.name)] = p, p
	}
	m := c.systemd()
	told, from := m.Told(containers...), m.From(proxies...)
	for _, id := range []string{systemd.Starting, systemd.Started, systemd.Stopped, systemd.Failed, systemd.NoStart} {
		told = append(told, "MESSAGE_ID="+id)
	}
	from = append(from, "MESSAGE_ID="+wire.WakeMessage, "MESSAGE_ID="+wire.FailMessage)
	entries, err := m.Journal(ctx, systemd.Query{Since: since, Match: [][]string{told, from}})
	if err != nil {
		return nil, err
	}
	var last systemd.Entry
	for _, e := range entries {
		if last != nil && last.Text("_BOOT_ID") != e.Text("_BOOT_ID") {
			for _, p := range all { // the power has failed
				p.end(last.Time())
			}
		}
		last = e
		p := byUnit[m.Sender(e)] // a proxy, which speaks for its own container only
		if p == nil {
			p = byUnit[e.About()]
		}
		if p != nil {
			p.add(e, since)
		}
	}
	now := c.clock()
	for i, p := range all {
		p.close(services[i], since, now)
	}
	return all, nil
}

// add is the next record.
func (p *past) add(e systemd.Entry, since time.Time) {
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
			p.Wakes = append(p.Wakes, wakeReport{Time: at, Seconds: at.Sub(p.starting).Seconds()})
		}
	case systemd.Stopped, systemd.Failed, systemd.NoStart:
		if p.From.Equal(at) { // it has been up since before
			p.From = since
			p.begin(since)
		}
		p.end(at)
	case wire.WakeMessage:
		r := newRecord(e)
		p.Wakes = append(p.Wakes, wakeReport{at, client(r.peer), coldStart(r, p.starting, p.started).Seconds()})
	case wire.FailMessage:
		p.Failures++
	}
}

func (p *past) begin(at time.Time) {
	if !p.up {
		p.Awake, p.up = append(p.Awake, period{From: at}), true
	}
}

func (p *past) end(at time.Time) {
	if p.up {
		p.Awake[len(p.Awake)-1].To, p.up = at, false
	}
}

// close ends the account with how the service stands now.
func (p *past) close(s *service, since, now time.Time) {
	runs := s.container.Is("active", "activating", "reloading", "deactivating")
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

// ran is the time in which the container ran.
func (p *past) ran() time.Duration {
	var sum time.Duration
	for _, a := range p.Awake {
		sum += a.To.Sub(a.From)
	}
	return sum
}

// quantile is the smallest cold start that so many of all do not exceed.
func (p *past) quantile(q float64) float64 {
	seconds := make([]float64, 0, len(p.Wakes))
	for _, w := range p.Wakes {
		seconds = append(seconds, w.Seconds)
	}
	slices.Sort(seconds)
	if len(seconds) == 0 {
		return math.NaN()
	}
	return seconds[max(0, int(math.Ceil(q*float64(len(seconds))))-1)]
}

func (p *past) summary() string {
	total := p.To.Sub(p.From)
	if total <= 0 {
		return "nothing is recorded"
	}
	text := plural(len(p.Wakes), "wake")
	if p.Failures > 0 {
		text += fmt.Sprintf(", clients turned away %s", plural(p.Failures, "time"))
	}
	if len(p.Wakes) > 0 {
		text += fmt.Sprintf(", cold start p50 %.2fs p99 %.2fs", p.quantile(0.5), p.quantile(0.99))
	}
	return text + fmt.Sprintf(", asleep %.1f %% of %s", 100*(1-p.ran().Seconds()/total.Seconds()), short(total))
}

// columns is how wide the timeline is on a terminal.
const columns = 72

// timeline shows how much of each part of the time the container ran.
func (p *past) timeline(ramp []string) string {
	var b strings.Builder
	step := p.To.Sub(p.From) / columns
	for i := range columns {
		from := p.From.Add(time.Duration(i) * step)
		b.WriteString(ramp[level(p.ranIn(from, from.Add(step)), step, len(ramp)-1)])
	}
	return b.String()
}

// level is a share in steps. A little is not nothing.
func level(part, whole time.Duration, highest int) int {
	if part <= 0 || whole <= 0 {
		return 0
	}
	return min(highest, max(1, int(math.Round(float64(highest)*part.Seconds()/whole.Seconds()))))
}

func (p *past) ranIn(from, to time.Time) time.Duration {
	var sum time.Duration
	for _, a := range p.Awake {
		begin, end := a.From, a.To
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		sum += max(0, end.Sub(begin))
	}
	return sum
}

// ramp are the characters of a timeline from asleep to awake.
func (c *call) ramp() []string {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(c.getenv(name)); v != "" {
			if strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8") {
				return strings.Split("·▁▂▃▄▅▆▇█", "")
			}
			break
		}
	}
	return strings.Split(".:-=+*#", "")
}

// scale says what the ends of the timelines are, if they are the same for all.
func (c *call) scale(all []*past) error {
	if len(all) == 0 {
		return c.printf("no container is scaled\n")
	}
	return c.printf("  each from its first record, %s ago at most, to now; %s asleep, %s awake\n", c.since, c.ramp()[0], c.ramp()[len(c.ramp())-1])
}
