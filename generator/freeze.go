package generator

import (
	"cmp"
	"slices"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// With Sleep=freeze the proxy freezes the container, and what it alone needs, and
// stays (proxy/freeze.go). Nothing may find a container frozen that nobody thaws: a
// signal but SIGKILL would wait for ever. So each unit whose container may be frozen
// thaws it before anything else is done to stop it, and the proxy's does when the proxy
// has ended, however it has.

// findFrozen settles what is frozen: the container, or those of the pod, and then the
// dependencies that nothing but these needs.
func (p *Plan) findFrozen() {
	for _, e := range p.Endpoints {
		if e.Refused() || !e.Spec.Freezes {
			continue
		}
		if len(e.Needs) > 0 {
			e.Spec.NotFrozen(e.Spec.SleepPos, &e.Diagnostics, "leave it out, or let clients of "+e.Needs[0].Unit+" be its only ones",
				"%s needs it, with or without clients", e.Needs[0].Unit)
			continue
		}
		e.frozen = []*Endpoint{e}
		for i := 0; i < len(e.frozen); i++ {
			for _, d := range p.Endpoints {
				if !slices.Contains(e.frozen, d) && d.sleepsWith(e.frozen) {
					e.addFrozen(d)
				}
			}
		}
	}
	for _, e := range p.Endpoints {
		if e.freezes() {
			e.tellAwake(p.Endpoints)
		}
	}
}

// tellAwake tells of dependencies that are not frozen with those that need them, since
// others do, too: with Sleep=stop they would stop at once.
func (e *Endpoint) tellAwake(all []*Endpoint) {
	for _, d := range all {
		if d.Refused() || !d.Spec.Dependency() {
			continue
		}
		sleeps := func(n Need) bool {
			return slices.ContainsFunc(e.frozen, func(other *Endpoint) bool { return slices.Contains(other.services(), n.Unit) })
		}
		other := slices.IndexFunc(d.Needs, func(n Need) bool { return !sleeps(n) })
		if other >= 0 && slices.ContainsFunc(d.Needs, sleeps) {
			e.Diagnostics.Warnf(e.Spec.SleepPos, "write a shorter StopAfter=, or leave Sleep= out",
				"%s stays awake while %s is frozen: %s needs it, too", d.name(wire.Container), e.name(wire.Container), d.Needs[other].Unit)
		}
	}
}

// sleepsWith reports whether a dependency is needed by some of these alone.
func (e *Endpoint) sleepsWith(all []*Endpoint) bool {
	if e.Refused() || !e.Spec.Dependency() || len(e.Needs) == 0 {
		return false
	}
	return !slices.ContainsFunc(e.Needs, func(n Need) bool {
		return !slices.ContainsFunc(all, func(other *Endpoint) bool { return slices.Contains(other.services(), n.Unit) })
	})
}

// addFrozen has a dependency be frozen, too, unless that cannot be: it stays awake
// then.
func (e *Endpoint) addFrozen(d *Endpoint) {
	for _, f := range d.Files() {
		if at, why, hint := scale.Unfreezable(f); why != "" {
			d.Diagnostics.Warnf(at.Pos, hint, "%s stays awake while %s is frozen: %s", d.name(wire.Container), e.name(wire.Container), why)
			return
		}
	}
	if d.isKube() {
		d.Diagnostics.Warnf(d.Spec.SectionPos(), "write a .pod file", "%s stays awake while %s is frozen: Podman has the containers of a .kube file elsewhere",
			d.name(wire.Container), e.name(wire.Container))
		return
	}
	e.frozen = append(e.frozen, d)
	d.frozenBy = e
}

// unfreeze is for one of whose units is somebody else's: nothing in that would thaw the
// container before it stops.
func (e *Endpoint) unfreeze(unit string) {
	switch by := e.frozenBy; {
	case by != nil:
		by.frozen = slices.DeleteFunc(by.frozen, func(other *Endpoint) bool { return other == e })
		e.frozenBy = nil
	case e.freezes():
		for _, d := range e.frozen {
			d.frozenBy = nil
		}
		e.frozen = nil
		e.Spec.NotFrozen(e.Spec.SleepPos, &e.Diagnostics, "leave one of the two out", "%s is not zerolet's", unit)
	}
}

// freezes reports whether the proxy freezes rather than ends.
func (e *Endpoint) freezes() bool { return len(e.frozen) > 0 }

// isFrozen reports whether the endpoint's containers may be.
func (e *Endpoint) isFrozen() bool { return e.freezes() || e.frozenBy != nil }

// Frozen are the services that are frozen with the endpoint's, in order.
func (e *Endpoint) Frozen() (units []string) {
	for _, other := range e.frozen {
		if members := other.MemberServices(); len(members) > 0 {
			units = append(units, members...) // its infra container does nothing
		} else {
			units = append(units, other.name(wire.Container))
		}
	}
	return units
}

// thaws is a command line that thaws the containers of units.
func (l Layout) thaws(units ...string) string {
	return l.command(wire.Config{Thaw: true, Freeze: units})
}

// thawsFirst has a unit thaw its container before it is stopped, or told to reload: an
// empty assignment of the file clears what stands before it.
func (e *Endpoint) thawsFirst(l Layout, u *Unit) {
	by := cmp.Or(e.frozenBy, e)
	if !slices.Contains(by.Frozen(), u.Name) {
		return
	}
	for _, s := range u.Sections {
		if s.Section != "Service" {
			continue
		}
		for _, key := range []string{"ExecReload", "ExecStop"} {
			first := 0
			declared := key == "ExecStop"
			for i, entry := range s.Entries {
				declared = declared || entry.Name == key
				if entry.Name == key && entry.Value == "" {
					first = i + 1
				}
			}
			if declared {
				s.Entries = slices.Insert(s.Entries, first, &unit.UnitEntry{Name: key, Value: "-" + l.thaws(u.Name)})
			}
		}
	}
}

// thawsAfter has the proxy's unit thaw the containers when the proxy has ended. Root's
// proxy is a user who may not do so.
func (e *Endpoint) thawsAfter(l Layout, service *unit.UnitSection) {
	if e.freezes() {
		add(service, "ExecStopPost", "-+"+l.thaws(e.Frozen()...))
	}
}

// checkHealthFrozen tells of checks that find a container frozen.
func (e *Endpoint) checkHealthFrozen() {
	if !e.isFrozen() {
		return
	}
	for _, f := range e.Files() {
		check, ok := f.Last("Container", "HealthCmd")
		if ok && check.Value != "" && check.Value != "none" {
			e.Diagnostics.Notef(check.Pos, "let nothing act on it", "while it is frozen Podman cannot ask, and calls it unhealthy until the first check after that")
		}
	}
}
