package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// askEvery is how often those who are awake are asked to give way: one may be
// about to start when it is asked first.
const askEvery = time.Second

// AwaitTurn waits until none of the others is up, or on its way up or down, that
// began before the named service did, which is starting. Those that begin later
// wait for this one in the same way. told gets to know who they are, whenever
// that changes. It is false if nobody needs the service any more.
func (h Host) AwaitTurn(ctx context.Context, name string, others []string, told func(before []string)) (bool, error) {
	bus, err := h.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer bus.Close()
	units := []string{wire.Proxy.Of(name), wire.Wake.Of(name)}
	for _, other := range others {
		units = append(units, wire.Container.Of(other), wire.Proxy.Of(other))
	}
	changes := bus.Changes(ctx, units...)
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var last []string
	for asks := true; ; {
		q, err := h.queue(ctx, bus, name, others)
		if err != nil || !q.needed || len(q.before) == 0 {
			return q.needed, err
		}
		if !slices.Equal(q.before, last) {
			last = q.before
			told(last)
		}
		switch {
		case len(q.free) > 0:
			err = h.stop(ctx, bus, name, others, q.free)
		case asks && len(q.awake) > 0:
			h.ask(ctx, q.awake)
		}
		if err != nil {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-changes:
			asks = false
		case <-tick.C:
			asks = true
		}
	}
}

// ask has proxies give way. Who has none, or one that is on its way down, is asked
// in vain.
func (h Host) ask(ctx context.Context, proxies []string) {
	_, _ = h.Control(ctx, append([]string{"kill", "--kill-who=main", fmt.Sprintf("--signal=%d", wire.GiveWay), "--"}, proxies...)...)
}

// stop stops the containers that are free. They are asked once more before: their
// proxies let nobody in for a while then.
func (h Host) stop(ctx context.Context, bus *systemd.Bus, name string, others, free []string) error {
	var proxies, containers []string
	for _, other := range free {
		proxies = append(proxies, wire.Proxy.Of(other))
	}
	h.ask(ctx, proxies)
	q, err := h.queue(ctx, bus, name, others)
	if err != nil {
		return err
	}
	for _, other := range q.free {
		if slices.Contains(free, other) {
			containers = append(containers, wire.Container.Of(other))
		}
	}
	if len(containers) == 0 {
		return nil
	}
	_, err = h.Control(ctx, append([]string{"stop", "--no-block", "--"}, containers...)...)
	return err
}

// queue is how the others stand of a group.
type queue struct {
	needed bool     // the one that waits
	before []string // began earlier, and have not ended
	awake  []string // the proxies of those among them that are awake
	free   []string // those among them that nobody is connected to or needs
}

func (h Host) queue(ctx context.Context, bus *systemd.Bus, name string, others []string) (q queue, err error) {
	const began = "InactiveExitTimestampMonotonic" // of one that is starting now
	own := &Service{Name: name, Container: make(systemd.Unit), Proxy: make(systemd.Unit)}
	wanted := []systemd.Wanted{
		{Name: wire.Container.Of(name), Properties: append([]string{began}, systemd.Dependents...), Into: own.Container},
		{Name: wire.Proxy.Of(name), Properties: []string{"ActiveState", "StatusText"}, Into: own.Proxy},
	}
	services := make([]*Service, len(others))
	for i, other := range others {
		s := &Service{Name: other, Container: make(systemd.Unit), Proxy: make(systemd.Unit)}
		services[i] = s
		wanted = append(wanted,
			systemd.Wanted{Name: wire.Container.Of(other), Properties: append([]string{"ActiveState", began}, systemd.Dependents...), Into: s.Container},
			systemd.Wanted{Name: wire.Proxy.Of(other), Properties: []string{"ActiveState", "StatusText"}, Into: s.Proxy})
	}
	if err := bus.Fill(ctx, wanted); err != nil {
		return q, err
	}
	l := look{Host: h, bus: bus}
	if err := l.others(ctx, services); err != nil {
		return q, err
	}
	if q.needed, err = needed(ctx, bus, own); err != nil {
		return q, err
	}
	mine := own.Container.Time(began)
	for _, s := range services {
		at := s.Container.Time(began)
		if s.Container.Is("inactive", "failed", "") || at.After(mine) || at.Equal(mine) && s.Name > name {
			continue
		}
		q.before = append(q.before, s.Name)
		if !s.Container.Is("active", "reloading") {
			continue
		}
		q.awake = append(q.awake, wire.Proxy.Of(s.Name))
		if s.Proxy.Is("active") && s.status().Free && len(s.HeldBy) == 0 {
			q.free = append(q.free, s.Name)
		}
	}
	return q, nil
}

// needed reports whether some unit is up that needs a container, or on its way up.
// A proxy that gives way does not: while it ends, systemd may have begun to bring
// its container back.
func needed(ctx context.Context, bus *systemd.Bus, s *Service) (bool, error) {
	names := s.dependents()
	if s.Proxy.Is("active") && s.status().Free {
		names = s.Others()
	}
	units := make([]systemd.Unit, len(names))
	var wanted []systemd.Wanted
	for i, name := range names {
		units[i] = make(systemd.Unit)
		wanted = append(wanted, systemd.Wanted{Name: name, Properties: []string{"ActiveState", "Job"}, Into: units[i]})
	}
	err := bus.Fill(ctx, wanted)
	return slices.ContainsFunc(units, func(u systemd.Unit) bool {
		return u.Is("active", "activating", "reloading") || u.Waits()
	}), err
}

// Rivals are the services one of which is awake at a time (Exclusive=), and what
// for, while the container waits for its turn.
func (s *Service) Rivals() (group string, names []string) {
	if s.Container["SubState"] != "condition" {
		return "", nil
	}
	for line := range strings.Lines(s.Container["ExecCondition"]) {
		words := strings.Fields(line)
		i := slices.Index(words, "--")
		if len(words) < 3 || words[1] != "turn" || i < 0 || i+2 > len(words) {
			continue
		}
		for _, word := range words[:i] {
			if name, ok := strings.CutPrefix(word, "--group="); ok {
				group = name
			}
		}
		return group, words[i+2:]
	}
	return "", nil
}
