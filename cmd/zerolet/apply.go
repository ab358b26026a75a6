package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// change is what apply does about one service.
type change struct {
	mark string // in front of the line: + new, ~ changed, - gone, = left alone
	name string
	text string
	// What to do once the manager has reloaded. All that goes is released before
	// anything is taken: two files may have swapped their ports.
	gone   *service.Service // whose units stop
	closes []string         // the proxy that has to stop before its socket can be opened
	timer  string           // a calendar that is no more
	stock  stock            // is in the way of the socket
	opens  [][]string       // systemctl's arguments
	busy   *service.Service // keeps what it listens on
	letsGo *service.Service // whose container stops when the files are read
}

// apply reloads the manager and brings what runs in line with the files.
func (c *call) apply(ctx context.Context) (int, error) {
	plan := c.planOf(ctx)
	units := plan.Units(c.layout())
	for _, d := range plan.All() {
		c.stderr.print(d)
	}
	if plan.Search.HasErrors() {
		return exitFailure, errors.New("some files could not be read: nothing was done")
	}
	all, err := c.look(ctx, service.Closely)
	if err != nil {
		return exitFailure, err
	}
	running, lost := all.Services, all.Lost
	if err := c.spare(plan, running); err != nil {
		return exitError, err
	}
	changes := c.changes(plan, units, running, lost)
	if err := c.findStock(ctx, plan, changes); err != nil {
		return exitFailure, err
	}
	if err := c.spareBusy(plan, changes); err != nil {
		return exitError, err
	}
	if err := c.announce(plan, changes); err != nil || c.dryRun {
		return verdict(plan.Search, plan.All()), err
	}
	status, err := c.carryOut(ctx, changes, verdict(plan.Search, plan.All()))
	if err != nil {
		return status, err
	}
	return status, c.keepSleepers(ctx, plan)
}

// carryOut reloads the manager and does what the changes say.
func (c *call) carryOut(ctx context.Context, changes []change, status int) (int, error) {
	began := c.clock()
	if err := c.reload(ctx); err != nil {
		return exitFailure, err
	}
	failed := func(name string, err error) {
		c.stderr.failure(failure{message: fmt.Sprintf("%s: %v", name, err), hint: fmt.Sprintf("zerolet doctor --%s", c.manager)})
		status = exitError
	}
	l, err := c.release(ctx, changes)
	if err := errors.Join(err, c.takeOver(ctx, changes)); err != nil {
		failed("apply", err)
	}
	for _, change := range changes {
		for _, args := range change.opens {
			if err := c.control(ctx, began, args...); err != nil && ctx.Err() == nil {
				failed(change.name, err)
				break
			}
		}
	}
	if err := c.awaitEnd(ctx, l); err != nil {
		failed("apply", err)
	}
	if ctx.Err() != nil {
		return exitError, failure{exitError, "interrupted", "zerolet apply does the rest"}
	}
	return status, nil
}

// reload has the manager read what the generator makes of the files.
func (c *call) reload(ctx context.Context) error {
	err := c.systemd().Reload(ctx)
	if !errors.Is(err, systemd.ErrNotReloaded) {
		return c.unreachable(err)
	}
	scope := "_PID=1"
	if c.systemd().User {
		scope = "--user-unit=init.scope"
	}
	return failure{
		exitFailure, err.Error() + ": nothing was done",
		fmt.Sprintf("journalctl %s says why: it may have too many files open for a second copy of its sockets (LimitNOFILE=)", scope),
	}
}

// control has systemctl start a unit, and calls a failed job by its cause, which
// is after since in the journal.
func (c *call) control(ctx context.Context, since time.Time, args ...string) error {
	if unit := args[len(args)-1]; strings.HasSuffix(unit, ".socket") {
		// While another had its port, systemd may have tried as often as it
		// may be started. What is not loaded has not.
		_, _ = c.systemd().Control(ctx, "reset-failed", "--", unit)
	}
	_, err := c.systemd().Control(ctx, args...)
	if err == nil {
		return nil
	}
	unit := args[len(args)-1]
	why, e := untilTold(ctx, func() (string, error) {
		words, e := c.host().Words(ctx, []string{unit}, since)
		return words[unit], e
	})
	if e == nil && why != "" {
		return errors.New(why)
	}
	return err
}

// untilTold asks for what the journal tells of a moment ago, which may come a moment
// later.
func untilTold(ctx context.Context, ask func() (string, error)) (why string, err error) {
	for range 20 {
		if why, err = ask(); err == nil && why != "" {
			return why, nil
		}
		select {
		case <-ctx.Done():
			return why, err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return why, err
}

// spare keeps a file's error from taking down what works: to reload would close
// its socket.
func (c *call) spare(plan *generator.Plan, running []*service.Service) error {
	if c.force {
		return nil
	}
	for _, e := range plan.Endpoints {
		for _, s := range running {
			if e.Refused() && s.Source() == e.Spec.File.Path && s.Works() {
				return failure{
					exitError, fmt.Sprintf("%s works, and its file has an error: nothing was done", s.Name),
					"mend the file; zerolet apply --force reloads all the same and takes it down",
				}
			}
		}
	}
	return nil
}

// changes are what there is to do, for the declared services and for those that
// are not declared any more.
func (c *call) changes(plan *generator.Plan, units []generator.Unit, running []*service.Service, lost []string) []change {
	var all []change
	declared := make(map[string]bool)
	for _, e := range plan.Endpoints {
		main := wire.Socket.Of(e.Spec.Unit)
		if e.Spec.Dependency() {
			main = wire.Container.Of(e.Spec.Unit)
		}
		if e.Refused() || !slices.ContainsFunc(units, func(u generator.Unit) bool { return u.Name == main }) {
			continue
		}
		declared[e.Spec.Unit] = true
		if left, others := leftAlone(e, plan.AdminUnit, lost); others {
			all = append(all, left)
			continue
		}
		s := &service.Service{Name: e.Spec.Unit, Relic: slices.Contains(lost, wire.Socket.Of(e.Spec.Unit))}
		if i := slices.IndexFunc(running, func(s *service.Service) bool { return s.Name == e.Spec.Unit }); i >= 0 {
			s = running[i]
		}
		changeOf := c.changeOf
		if e.Spec.Dependency() {
			changeOf = c.changeOfDependency
		}
		change, needed := changeOf(e, s, units)
		if change.timer = dropped(s, units); change.timer != "" && !needed {
			change.mark, change.name, change.text, needed = "~", s.Name, "has no calendar any more", true
		}
		if needed {
			all = append(all, change)
		}
	}
	for _, s := range running {
		if !declared[s.Name] && (s.Socket.Is("active") || s.Proxy.Is("active") || s.Orphan() || s.Dependency()) {
			change := gone(s)
			change.timer = dropped(s, units)
			all = append(all, change)
		}
	}
	for _, unit := range lost {
		if name := service.Of(unit); !declared[name] {
			all = append(all, change{mark: "=", name: name, text: unit + " has no file any more, and nothing shows that it is zerolet's: left alone"})
		}
	}
	return all
}

// dropped is the calendar of a service that has none any more. A plain daemon-reload
// leaves one without a file, and that has failed: the unit that it triggers has
// vanished (timer_enter_waiting in systemd's timer.c).
func dropped(s *service.Service, units []generator.Unit) string {
	timer := wire.Timer.Of(s.Name)
	left := s.Timer.Is("active", "failed") && (!s.Timer.Found() || service.Generated(s.Timer))
	if !left || slices.ContainsFunc(units, func(u generator.Unit) bool { return u.Name == timer }) {
		return ""
	}
	return timer
}

// leftAlone is about a declared service with a unit that is somebody else's.
func leftAlone(e *generator.Endpoint, admin func(string) (exists, masked bool), lost []string) (change, bool) {
	socket, proxy := wire.Socket.Of(e.Spec.Unit), wire.Proxy.Of(e.Spec.Unit)
	for _, unit := range []string{socket, proxy} {
		if exists, masked := admin(unit); exists && !masked || unit == proxy && slices.Contains(lost, unit) {
			return change{mark: "=", name: e.Spec.Unit, text: unit + " is not zerolet's: left alone"}, true
		}
	}
	return change{}, false
}

func gone(s *service.Service) change {
	text := "is not declared any more"
	if len(s.Running()) > 0 {
		text += ": stops"
	}
	if n := s.Connections(); n > 0 {
		text += fmt.Sprintf(" (%s open, cut off after 10s)", plural(n, "connection"))
	}
	return change{mark: "-", name: s.Name, text: text, gone: s}
}

// changeOfDependency is changeOf for a container without a port. Who needs it
// brings it up.
func (c *call) changeOfDependency(e *generator.Endpoint, s *service.Service, units []generator.Unit) (change, bool) {
	runs := s.Container.Is("active", "activating")
	switch {
	case s.Socket.Is("active") || s.Proxy.Is("active"):
		return change{mark: "~", name: s.Name, text: "listens no more: stops, and " + wakesAndSleeps(e), gone: s}, true
	case !s.Dependency():
		return change{mark: "+", name: s.Name, text: wakesAndSleeps(e)}, true
	case len(s.Changed(units)) == 0:
		return change{}, false
	case !runs:
		return change{mark: "~", name: s.Name, text: "has other settings"}, true
	case c.now:
		return change{
			mark: "~", name: s.Name, text: "has other settings: restarts, and who needs it",
			opens: [][]string{{"restart", "--", wire.Container.Of(s.Name)}},
		}, true
	}
	return change{mark: "=", name: s.Name, text: fmt.Sprintf("is %s: has its other settings when it wakes next%s", s.State(), c.atOnce(s.Others()...))}, true
}

// changeOf compares a declared service with the one that runs.
func (c *call) changeOf(e *generator.Endpoint, s *service.Service, units []generator.Unit) (change, bool) {
	socket, proxy := wire.Socket.Of(s.Name), wire.Proxy.Of(s.Name)
	on := ranges(listens(e))
	start := [][]string{{map[bool]string{false: "start", true: "restart"}[s.Relic], "--", socket}}
	restart := [][]string{{"restart", "--", socket}}
	hasStandIn := slices.ContainsFunc(units, func(u generator.Unit) bool { return u.Name == wire.StandIn.Of(s.Name) })
	if hasStandIn {
		stands := []string{"start", "--", wire.StandIn.Of(s.Name)} // to know whether it does
		start, restart = append(start, stands), append(restart, stands)
	}
	changed := s.Changed(units)
	if slices.Contains(changed, wire.StandIn.Of(s.Name)) {
		changed = append(changed, socket) // it starts with that, and anew
	}
	switch {
	case s.Socket["UnitFileState"] == "masked":
		return change{mark: "=", name: s.Name, text: "its socket is masked: left alone"}, true
	case !s.Socket.Is("active") && len(e.PartOf) > 0:
		return change{mark: "+", name: s.Name, text: "listens on " + listensWhile(e)}, !s.Socket.Found() || slices.Contains(changed, socket)
	case !s.Socket.Is("active") && !e.Spec.AutoStart:
		return change{mark: "+", name: s.Name, text: "AutoStart=no: left to whoever starts " + socket}, !s.Socket.Found() || slices.Contains(changed, socket)
	case !s.Socket.Is("active") && s.Socket.Found():
		return change{mark: "~", name: s.Name, text: "listens on " + on + " again", opens: start}, true
	case !s.Socket.Is("active"):
		return change{mark: "+", name: s.Name, text: "listens on " + on, opens: start}, true
	case !slices.Contains(changed, socket) && len(s.NotListening) == 0:
		return c.laterChange(s, changed, units)
	case s.Connections() > 0 && !c.now:
		return change{mark: "=", name: s.Name, busy: s, text: fmt.Sprintf("%s open: listens on %s once it sleeps and you say zerolet apply again, or --now", plural(s.Connections(), "connection"), on)}, true
	}
	var closes []string
	if s.Proxy.Is("active", "activating") {
		closes = []string{proxy} // else the restart of the socket restarts it
	}
	if !hasStandIn && s.StandIn.Is("active", "activating") {
		closes = append(closes, wire.StandIn.Of(s.Name)) // without a file it is bound to the socket no more
	}
	return change{mark: "~", name: s.Name, text: "listens on " + on, closes: closes, opens: restart}, true
}

// laterChange is about a change that needs no other socket: what sleeps has it
// when it wakes.
func (c *call) laterChange(s *service.Service, changed []string, units []generator.Unit) (change, bool) {
	stops := change{mark: "~", name: s.Name, text: "has other settings: stops, and wakes with them", closes: []string{wire.Proxy.Of(s.Name)}}
	switch {
	case len(changed) == 0:
		return change{}, false
	case !s.Proxy.Is("active", "activating") && !s.Container.Is("active", "activating"):
		return change{mark: "~", name: s.Name, text: "has other settings"}, true
	case c.now:
		return stops, true
	case letsGo(s, units):
		stops.letsGo = s
		return stops, true
	}
	return change{mark: "=", name: s.Name, text: fmt.Sprintf("is %s (%s open): has its other settings when it wakes next%s", s.State(), plural(s.Connections(), "connection"), c.atOnce(s.Name))}, true
}

// letsGo reports whether the manager stops the container as soon as it has read the
// files: the proxy that runs keeps it up by its own unit, where another one does from
// now on, which that proxy does not know of.
func letsGo(s *service.Service, units []generator.Unit) bool {
	target := wire.Wake.Of(s.Name)
	return s.Proxy.Is("active", "activating") && !s.Target.Found() &&
		slices.ContainsFunc(units, func(u generator.Unit) bool { return u.Name == target })
}

// atOnce is what to say instead of a wait. Once systemd has read the files,
// nobody sees any more that what runs was made of others.
func (c *call) atOnce(names ...string) string {
	if c.dryRun || len(names) == 0 {
		return ", or with --now at once"
	}
	return fmt.Sprintf(" (%s: at once)", c.typed(strings.TrimSuffix(names[0], ".service"), "sleep", "--force"))
}

// announce prints what is going to be done.
func (c *call) announce(plan *generator.Plan, changes []change) error {
	for _, change := range changes {
		if err := c.printf("%s %s: %s\n", change.mark, change.name, change.text); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		return nil
	}
	n := 0
	for _, e := range plan.Endpoints {
		if !e.Refused() {
			n++
		}
	}
	return c.printf("nothing to do: %s as declared\n", plural(n, "service"))
}
