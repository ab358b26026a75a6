package generator

import (
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// A container without a port may be bound to an app the wrong way round: its file
// says BindsTo=app.service, as a worker's does that is to run beside the app, and
// each would keep the other up. What is meant is that it comes and goes with the
// app. So it does: the app brings it up, and it is part of the app. So does one that
// says Network=app.container, of which Quadlet makes Requires=app.service: the ports
// of both are the app's.

// binding are the settings that bind a container to another one.
func binding() []string { return append(pulling(), "PartOf") }

// bound is what a container is bound to: an app, or one container of it if that
// is a pod.
type bound struct {
	app     *Endpoint
	service string
	pos     quadlet.Pos
}

// findBound finds containers that nothing starts but the apps to which they are
// bound. The services of these are known by their names.
func (p *Plan) findBound(endpoints map[string]*Endpoint, services map[string]string) {
	for _, e := range p.Endpoints {
		if e.Refused() || e.Spec.Unit == "" || !e.Spec.Dependency() {
			continue
		}
		to := e.boundTo(endpoints, services)
		isBound := func(n Need) bool { // by the app itself, or by another one that goes with it
			other := endpoints[n.Unit]
			return slices.ContainsFunc(to, func(b bound) bool { return b.app == other }) || other != nil && other.Spec.Dependency() &&
				slices.ContainsFunc(other.boundTo(endpoints, services), func(o bound) bool {
					return slices.ContainsFunc(to, func(b bound) bool { return b.app == o.app })
				})
		}
		if len(to) == 0 || slices.ContainsFunc(e.Needs, func(n Need) bool { return n.pulls && !isBound(n) }) {
			continue
		}
		e.bound = to
		for _, b := range to {
			b.app.Needs = slices.DeleteFunc(b.app.Needs, func(n Need) bool { return n.Unit == e.name(wire.Container) })
			e.need(b.service, dependency{"Requires", e.name(wire.Container)}, e.name(wire.Container), b.pos)
		}
	}
}

// boundTo are the services of containers with ports to which one is bound, and the
// first lines that say so.
func (e *Endpoint) boundTo(endpoints map[string]*Endpoint, services map[string]string) (to []bound) {
	add := func(name string, pos quadlet.Pos) {
		app, service := endpoints[name], services[name]
		known := slices.ContainsFunc(to, func(b bound) bool { return b.service == service })
		if app != nil && !app.Spec.Dependency() && !app.Refused() && !known {
			to = append(to, bound{app, service, pos})
		}
	}
	for _, entry := range e.Spec.File.Entries {
		if entry.Section != "Unit" || !slices.Contains(binding(), entry.Key) {
			continue
		}
		for _, word := range entry.Words() {
			add(word, entry.Pos)
		}
	}
	if e.owner != nil {
		add(e.owner.Name(), e.owner.joined.Pos)
	}
	return to
}

// BoundTo reports whether the container comes and goes with an app to which its file
// is bound.
func (e *Endpoint) BoundTo(app *Endpoint) bool {
	return slices.ContainsFunc(e.bound, func(b bound) bool { return b.app == app })
}

// isApp reports whether a container is bound to the service, by either of its
// names. Those of a pod's containers are the pod's.
func (e *Endpoint) isApp(name string) bool {
	return slices.ContainsFunc(e.bound, func(b bound) bool {
		return slices.ContainsFunc(b.app.Files(), func(f *quadlet.File) bool {
			return name == wire.Container.Of(f.Unit()) || name == f.Name()
		})
	})
}

// turned reports whether the endpoint of a file, if there is one, is started by the
// service that its file starts.
func (e *Endpoint) turned(service string) bool { return e != nil && e.isApp(service) }

// turnRound has such a container be part of its apps, and start none of them.
func (e *Endpoint) turnRound(u *Unit) {
	for _, s := range u.Sections {
		if s.Section != "Unit" {
			continue
		}
		var kept []*unit.UnitEntry
		for _, entry := range s.Entries {
			if slices.Contains(pulling(), entry.Name) {
				entry.Value = e.withoutApps(entry.Value)
			}
			if entry.Value != "" || !slices.Contains(pulling(), entry.Name) {
				kept = append(kept, entry)
			}
		}
		s.Entries = kept
	}
	for _, b := range e.bound {
		if !slices.Contains(e.names("PartOf"), b.service) {
			set(u, "Unit", "PartOf", b.service)
		}
	}
}

// names are the units that a list of the file's names.
func (e *Endpoint) names(key string) (names []string) {
	for _, entry := range e.Spec.File.All("Unit", key) {
		names = append(names, entry.Words()...)
	}
	return names
}

// withoutApps is a list of units without the apps, as it was written if there is
// none among them.
func (e *Endpoint) withoutApps(value string) string {
	words := quadlet.Entry{Section: "Unit", Key: "Requires", Value: value}.Words()
	if !slices.ContainsFunc(words, e.isApp) {
		return value
	}
	return strings.Join(slices.DeleteFunc(words, e.isApp), " ")
}
