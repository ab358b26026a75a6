package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// spareBusy keeps a service that is in use from losing what another one is to
// listen on, or its container. Nothing is done then: to reload would close what that
// other one listens on now, and it could not listen anywhere else; and it would stop
// the container.
func (c *call) spareBusy(plan *generator.Plan, changes []change) error {
	for _, change := range changes {
		if s := change.letsGo; s != nil && s.Connections() > 0 {
			return failure{
				exitError, fmt.Sprintf("%s has %s open, and its container stops when the files are read: nothing was done", s.Name, plural(s.Connections(), "connection")),
				"zerolet apply --now cuts them off",
			}
		}
		for _, e := range plan.Endpoints {
			if change.busy == nil || e.Refused() || e.Spec.Unit == change.name {
				continue
			}
			for _, f := range e.Forwards {
				if !slices.ContainsFunc(change.busy.Listens(), func(l service.Listener) bool { return l.Excludes(f) }) {
					continue
				}
				return failure{
					exitError, fmt.Sprintf("%s has %s open, and %s is to listen on %s: nothing was done", change.name,
						plural(change.busy.Connections(), "connection"), e.Spec.Unit, f),
					"zerolet apply --now lets them end for 10s, then cuts them off",
				}
			}
		}
	}
	return nil
}

// release has all that goes let go of what others may be about to take. What
// is gone and runs lets its clients end meanwhile.
func (c *call) release(ctx context.Context, changes []change) (l leave, err error) {
	var closes, sockets, timers []string
	var listened []service.Listener
	kept := false // by an app with Mode=native, which has its sockets until its end
	for _, change := range changes {
		closes = append(closes, change.closes...)
		if change.timer != "" {
			timers = append(timers, change.timer)
		}
		if s := change.gone; s != nil {
			l.add(s)
			kept = kept || s.Opener.Found()
			listened = append(listened, s.Listens()...)
			if s.Owns(s.Socket) && s.Socket.Is("active") {
				sockets = append(sockets, wire.Socket.Of(s.Name))
			}
		}
		for _, args := range change.opens[:min(len(change.opens), 1)] {
			l.before = append(l.before, wire.Container.Of(strings.TrimSuffix(args[len(args)-1], string(wire.Socket))))
		}
	}
	m := c.systemd()
	if len(timers) > 0 {
		_, err = m.Control(ctx, append([]string{"stop", "--"}, timers...)...)
		// Without its file it has failed (see dropped).
		_, _ = m.Control(ctx, append([]string{"reset-failed", "--"}, timers...)...)
	}
	if len(sockets) > 0 {
		_, e := m.Control(ctx, append([]string{"stop", "--"}, sockets...)...)
		err = errors.Join(err, e)
	}
	if l.unit != "" {
		err = errors.Join(err, l.begin(ctx, m))
		if kept || !c.free(ctx, func(l service.Listener) bool { return slices.Contains(listened, l) }) {
			err = errors.Join(err, c.awaitEnd(ctx, l))
		}
	}
	if len(closes) > 0 {
		_, e := m.Control(ctx, append([]string{"stop", "--"}, closes...)...)
		err = errors.Join(err, e)
	}
	return l, err
}

// free waits until nobody of those listens any more, for as long as a proxy may
// take to end.
func (c *call) free(ctx context.Context, those func(service.Listener) bool) bool {
	for deadline := c.clock().Add(10 * time.Second); c.clock().Before(deadline); {
		found, err := service.Listening(c.systemd())
		for l := range found {
			if !those(l) {
				delete(found, l)
			}
		}
		if err == nil && len(found) == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(2 * time.Millisecond):
		}
	}
	return false
}

// leave is the end of what is not declared any more, as a unit of systemd's own:
// it goes on if apply is interrupted, and what apply starts waits for it. A
// container that was renamed is gone before it comes under its new name: its
// data are one container's at a time.
type leave struct {
	unit    string   // none if nothing but sockets has to stop
	proxies []string // let their clients end, and stop first: nothing else orders units without a file
	rest    []string
	before  []string // containers that have to wait
}

func (l *leave) add(s *service.Service) {
	for _, name := range s.Running() {
		switch name {
		case wire.Proxy.Of(s.Name):
			l.proxies = append(l.proxies, name)
		case wire.Socket.Of(s.Name), wire.Timer.Of(s.Name): // stopped already
		case wire.Healthy.Of(s.Name): // ends with the container's start
		default:
			l.rest = append(l.rest, name)
		}
	}
	if len(l.proxies)+len(l.rest) > 0 {
		l.unit = fmt.Sprintf("zerolet-apply-%d.service", os.Getpid())
	}
}

// begin has the proxies let go of their sockets, and end with their clients.
func (l *leave) begin(ctx context.Context, m systemd.Manager) error {
	var commands [][]string
	if len(l.proxies) > 0 {
		commands = append(commands,
			append([]string{"kill", "--kill-who=main", fmt.Sprintf("--signal=%d", wire.LetGo), "--"}, l.proxies...),
			append([]string{"stop", "--"}, l.proxies...))
	}
	if len(l.rest) > 0 {
		commands = append(commands, append([]string{"stop", "--"}, l.rest...))
	}
	return m.Run(ctx, systemd.Job{Unit: l.unit, Description: "End of what is not declared any more", Before: l.before, Commands: commands})
}

// awaitEnd waits until what is not declared any more has stopped.
func (c *call) awaitEnd(ctx context.Context, l leave) error {
	if l.unit == "" {
		return nil
	}
	bus, err := c.systemd().Connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	changes := bus.Changes(ctx, l.unit)
	for {
		loaded, err := bus.Loaded(ctx)
		if err != nil {
			return err
		}
		if u := loaded[l.unit]; !u.Waits() && !u.Is("activating", "active", "deactivating") {
			return stillThere(loaded, slices.Concat(l.proxies, l.rest))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
}

// stillThere is an error that names a unit that should have stopped.
func stillThere(loaded map[string]systemd.Unit, names []string) error {
	for _, name := range names {
		if loaded[name].Is("active", "deactivating") {
			return fmt.Errorf("%s does not stop", name)
		}
	}
	return nil
}
