package generator

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// While a unit stops that the container needs, systemd refuses the start that
// Upholds= asks for: it would have to replace the job of the stop (job mode "fail",
// manager_dispatch_start_when_upheld_queue in systemd's manager.c). It asks again
// when the container's own state changes, and that does not. So whoever upholds the
// container upholds a target, too, that requires what the container needs. That does
// two things.
//
// What is needed does not stop for a start that has failed: the target needs it, too.
//
// Unless it needs the container in turn, as the app does to which a worker is bound:
// with the target in between, the two would keep each other up.
//
// If somebody stops it, the target is stopped with it (Requires=), and after it:
// units stop in the order that Before= reversed tells (systemd.unit(5)). So when the
// target is upheld, the stop is over, and the target wants the container.

// The containers of a pod need the pod, and maybe each other: that is the same.

// findRequired notes what each container needs, also by way of others.
func (p *Plan) findRequired(files []*quadlet.File) {
	requires := p.requires(files)
	for _, e := range p.Endpoints {
		own := e.services()
		seen := make(map[string]bool)
		for next := slices.Clone(own); len(next) > 0; next = next[1:] {
			for _, unit := range requires[next[0]] {
				inside := e.isPod() && slices.Contains(own, unit)
				if !seen[unit] && (inside || !requires.lead(unit, own)) {
					seen[unit] = true
					e.required = append(e.required, unit)
					next = append(next, unit)
				}
			}
		}
	}
}

// requirements are the services that each service does not run without, and those that
// it keeps up.
type requirements map[string][]string

// lead reports whether a service is one of those, or comes to need one of them.
func (r requirements) lead(service string, to []string) bool {
	seen := make(map[string]bool)
	for next := []string{service}; len(next) > 0; next = next[1:] {
		if slices.Contains(to, next[0]) {
			return true
		}
		if !seen[next[0]] {
			seen[next[0]] = true
			next = append(next, r[next[0]]...)
		}
	}
	return false
}

// requires are the requirements of all files.
func (p *Plan) requires(files []*quadlet.File) requirements {
	requires := make(requirements)
	services := make(map[string]string)
	for _, f := range files {
		service := wire.Container.Of(f.Unit())
		services[f.Name()], services[service] = service, service
	}
	for _, f := range files {
		unit := wire.Container.Of(f.Unit())
		for _, key := range []string{"Requires", "BindsTo"} {
			for _, entry := range f.All("Unit", key) {
				for _, word := range entry.Words() {
					if service, ok := services[word]; ok {
						requires[unit] = append(requires[unit], service)
					}
				}
			}
		}
		if o := ownerOf(f, files); o != nil {
			requires[unit] = append(requires[unit], o.service())
		}
	}
	for _, e := range p.Endpoints {
		for _, service := range e.MemberServices() {
			requires[service] = append(requires[service], e.name(wire.Container))
		}
		for _, n := range e.Needs {
			requires[n.Unit] = append(requires[n.Unit], e.services()...)
		}
		for _, n := range e.networks {
			if unit := e.name(wire.Container); n.saysItself() || n.hasToStop() { // else it is over with its start
				requires[unit] = append(requires[unit], wire.Container.Of(n.Unit()))
			}
		}
	}
	return requires
}

// upholds are the units that are up while somebody needs the endpoint.
func (e *Endpoint) upholds() []string {
	if len(e.required) == 0 {
		return e.upheld()
	}
	return append(e.upheld(), e.name(wire.Needing))
}

// needing is the target that outlasts the stop of what the container needs.
func (e *Endpoint) needing() Unit {
	required := strings.Join(e.required, " ")
	return e.unit(e.name(wire.Needing), Normal, e.about("Needs of ",
		"Requires", required,
		"Before", required,
		"Wants", strings.Join(e.upheld(), " "),
		"StopWhenUnneeded", "yes",
		// Else it would come after all that it wants and requires
		// (systemd.target(5)), and after the container that would be a circle.
		"DefaultDependencies", "no",
		"Conflicts", "shutdown.target",
		"Before", "shutdown.target"))
}
