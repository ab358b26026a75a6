package generator

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Need is a unit that pulls a scaled container in. While it is up the container
// is, too: StopWhenUnneeded= waits for it, and Upholds= in a drop-in of that
// unit brings a container back that has died. Requires= alone would not: it is
// about stops and starts, not about a service that ends by itself
// (systemd.unit(5)).
type Need struct {
	Unit string
	Pos  quadlet.Pos // of the line that says so first

	pulls bool
	after bool
	named []string     // the services that it names
	says  []dependency // what else the drop-in has to say
}

// pulling are the dependencies that start another unit.
func pulling() []string { return []string{"Requires", "Wants", "BindsTo", "Upholds"} }

// findNeeds looks for the units that need a scaled container: in [Unit] of any
// file, and for a dependency in its own [Install].
func (p *Plan) findNeeds(files []*quadlet.File) {
	endpoints := make(map[string]*Endpoint)
	services := make(map[string]string)
	for _, e := range p.Endpoints {
		if e.Spec.Unit == "" {
			continue
		}
		for _, f := range e.Files() {
			service := wire.Container.Of(f.Unit())
			for _, name := range []string{service, f.Name()} {
				endpoints[name], services[name] = e, service
			}
		}
	}
	for _, f := range files {
		for _, entry := range f.Entries {
			if entry.Section != "Unit" || entry.Key != "After" && !slices.Contains(pulling(), entry.Key) {
				continue
			}
			for _, word := range entry.Words() {
				e, unit, on := endpoints[word], wire.Container.Of(f.Unit()), dependency{entry.Key, services[word]}
				switch {
				case e == nil || unit == on.unit:
				case slices.Contains(e.Files(), f):
					e.needInside(f, on, word, entry.Pos)
				default:
					e.need(unit, on, word, entry.Pos)
				}
			}
		}
	}
	joinedNeeds(files, endpoints)
	for _, e := range p.Endpoints {
		if !e.Refused() && e.Spec.Unit != "" {
			e.installNeeds()
		}
	}
	p.findBound(endpoints, services)
	for _, e := range p.Endpoints {
		e.finishNeeds()
		e.checkNativeNeeds()
	}
	starts := p.starts(files)
	p.checkCircles(starts)
	p.checkInside(files)
	p.checkAwake(files, starts)
}

// need notes that a unit names the container, or one of a pod. Only Quadlet 5.5
// and later turn the name of a .container file into that of its service; the
// drop-in does so for the others.
func (e *Endpoint) need(unit string, on dependency, word string, pos quadlet.Pos) {
	if slices.Contains(e.services(), unit) || !scale.ValidUnit(strings.TrimSuffix(unit, ".service")) {
		return // no unit of that name can need it
	}
	i := slices.IndexFunc(e.Needs, func(n Need) bool { return n.Unit == unit })
	if i < 0 {
		i = len(e.Needs)
		e.Needs = append(e.Needs, Need{Unit: unit, Pos: pos})
	}
	n := &e.Needs[i]
	n.after = n.after || on.key == "After"
	if slices.Contains(pulling(), on.key) && !slices.Contains(n.named, on.unit) {
		n.named = append(n.named, on.unit)
	}
	if !n.pulls && slices.Contains(pulling(), on.key) {
		n.pulls, n.Pos = true, pos
	}
	if word != on.unit && !slices.Contains(n.says, on) {
		n.says = append(n.says, on)
	}
}

// finishNeeds keeps what starts the container, and tells of a dependency that
// nothing does.
func (e *Endpoint) finishNeeds() {
	if e.Refused() || e.Spec.Unit == "" {
		e.Needs = nil
		return
	}
	ordered := slices.Clone(e.Needs)
	e.comeFirst(ordered)
	e.Needs = slices.DeleteFunc(e.Needs, func(n Need) bool { return !n.pulls })
	if e.Spec.Dependency() && len(e.Needs) == 0 {
		e.tellForgotten(ordered)
	}
}

// tellForgotten tells of a dependency that nothing starts, at the line that nearly
// does.
func (e *Endpoint) tellForgotten(ordered []Need) {
	name := e.name(wire.Container)
	if len(ordered) > 0 {
		e.stayAwake(ordered[0].Pos, "add Requires="+name+" beside it",
			"%s is never started: %s comes after it, but does not need it", name, ordered[0].Unit)
		return
	}
	var needed []string // which is what makes it no companion of that
	for _, key := range pulling() {
		needed = append(needed, e.names(key)...)
	}
	for _, entry := range e.Spec.File.All("Unit", "After") {
		for _, word := range entry.Words() {
			if slices.Contains(needed, word) {
				continue
			}
			if filepath.Ext(word) == ".service" || filepath.Ext(word) == ".container" {
				e.stayAwake(entry.Pos, "if it is to run while "+word+" does, write PartOf="+word+" beside it",
					"%s is never started: it comes after %s, which does not need it", name, word)
				return
			}
		}
	}
	but := ""
	if boots(e.Spec.File) {
		but = "; [Install] is not used, since a target would keep it up"
	}
	e.stayAwake(e.Spec.SectionPos(),
		"add PublishPort=8080:80 to ["+e.Spec.File.Kind()+"], or Listen=8080:80 here, or Requires="+name+" and After="+name+" to [Unit] of the container that needs it",
		"%s is never started: the file has no port, and no other needs it%s", name, but)
}

// installNeeds adds the services that [Install] names: they start the container
// with stock Quadlet, too. What else stands there is about the socket.
func (e *Endpoint) installNeeds() {
	for _, f := range e.Files() {
		e.installNeedsOf(f)
	}
}

func (e *Endpoint) installNeedsOf(f *quadlet.File) {
	for _, by := range [][2]string{{"RequiredBy", "Requires"}, {"WantedBy", "Wants"}, {"UpheldBy", "Upholds"}} {
		for _, entry := range f.All("Install", by[0]) {
			for _, unit := range entry.Words() {
				switch {
				case filepath.Ext(unit) != ".service" || strings.Contains(unit, "/"): // the latter as stock Quadlet
				case e.Spec.Native:
					e.Diagnostics.Warnf(entry.Pos, "leave Mode= out, or let the first client wake it",
						"%s is not started with %s: with Mode=native only clients wake it", e.name(wire.Container), unit)
				default:
					e.need(unit, dependency{by[1], wire.Container.Of(f.Unit())}, "", entry.Pos)
				}
			}
		}
	}
}

// NeededBy are the units that need the container.
func (e *Endpoint) NeededBy() []string {
	var units []string
	for _, n := range e.Needs {
		units = append(units, n.Unit)
	}
	return units
}

// needed are the drop-ins for the units that need the container.
func (e *Endpoint) needed() []Unit {
	var units []Unit
	for _, n := range e.Needs {
		up := e.upholds()
		for _, named := range n.named {
			if !slices.Contains(up, named) && !slices.Contains(e.jobs(), named) {
				up = append(up, named)
			}
		}
		s := section("Unit", "Upholds", strings.Join(up, " "))
		if jobs := e.jobs(); len(jobs) > 0 {
			add(s, "Wants", strings.Join(jobs, " "))
		}
		for _, d := range n.says {
			if d.key != "Upholds" {
				add(s, d.key, d.unit)
			}
		}
		units = append(units, e.unit(filepath.Join(n.Unit+".d", "50-zerolet-"+e.Spec.Unit+".conf"), Normal, s))
	}
	return units
}
