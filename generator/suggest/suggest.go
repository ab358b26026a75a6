// Package suggest finds what would make whole stacks sleep: the drop-ins that are
// missing, and what keeps the rest awake. It changes nothing.
package suggest

import (
	"context"
	"slices"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Stack is some files whose services belong together: one needs another, they
// share a network or a pod.
type Stack struct {
	Files   []*quadlet.File     // in the order of the machine's
	Dropins []Dropin            // that are missing
	Awake   quadlet.Diagnostics // what does not sleep, and why: at most one for each file
	Slept   bool                // before
}

// Sleeps reports whether all of the stack sleeps with the drop-ins.
func (s *Stack) Sleeps() bool { return len(s.Awake) == 0 }

// search is one for what is missing.
type search struct {
	generator.Generator
	files   []*quadlet.File // that run something, as they are
	fronts  []front         // among them
	missing map[string]*missing
	given   map[string]bool               // files that had the section
	refused map[string]quadlet.Diagnostic // why a file is left without it, by its name
	read    map[string][]string           // lines of files, by their paths
}

// Stacks are those of all files that the generator reads.
func Stacks(ctx context.Context, g generator.Generator) ([]Stack, quadlet.Diagnostics) {
	before := g.Plan(ctx)
	s := &search{
		Generator: g, missing: make(map[string]*missing), given: make(map[string]bool), refused: make(map[string]quadlet.Diagnostic),
		read: make(map[string][]string),
	}
	for _, path := range before.Sources.Units(".container", ".pod", ".kube") {
		f, _ := before.Sources.Load(path)
		s.files = append(s.files, f)
		s.given[f.Name()] = scale.HasSection(f)
	}
	all := slices.Clone(s.files)
	s.files = slices.DeleteFunc(s.files, func(f *quadlet.File) bool { return generator.LeftToInstances(f, all) })
	s.fronts = fronts(s.files)
	for _, f := range s.files {
		if scale.Scales(f) && !scale.HasSection(f) && !generator.Ends(f) && s.podOf(f) == nil {
			s.of(f).section = true
		}
	}
	after := s.settle(ctx)
	return s.stacks(before, after), before.Search
}

// podOf is the pod of a container, which has the section for it; nil if it is in
// none.
func (s *search) podOf(f *quadlet.File) *quadlet.File {
	pod, ok := scale.PodOf(f)
	i := slices.IndexFunc(s.files, func(other *quadlet.File) bool { return other.Name() == pod.Value })
	if !ok || i < 0 || !scale.Scales(s.files[i]) {
		return nil
	}
	return s.files[i]
}

// of is what a file misses.
func (s *search) of(f *quadlet.File) *missing {
	m := s.missing[f.Name()]
	if m == nil {
		m = &missing{file: f}
		s.missing[f.Name()] = m
	}
	return m
}

// settle takes back the sections of files that would not sleep with them, and adds
// what the others need, until that is nothing more. Each round takes one back or
// adds a need, of which there are as many as files and pairs of them.
func (s *search) settle(ctx context.Context) *generator.Plan {
	steps := []func(*generator.Plan) (changed bool){
		s.spareWorkers, s.notePorts, s.addNames, s.takeBack, s.spareFronts, s.spareServers, s.addNeeds, s.giveUp, s.spareCalled, s.addOrder,
	}
	for {
		s.Dropins = make(map[string]*quadlet.File)
		for name, m := range s.missing {
			s.Dropins[name] = m.parsed()
		}
		plan := s.Plan(ctx)
		if !slices.ContainsFunc(steps, func(step func(*generator.Plan) bool) bool { return step(plan) }) {
			return plan
		}
	}
}

// notePorts notes which of the files that get a section have no port.
func (s *search) notePorts(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		m := s.missing[e.Spec.File.Name()]
		if m != nil && m.section && !m.portless && !e.Refused() && e.Spec.Dependency() {
			m.portless, changed = true, true
		}
	}
	return changed
}

// takeBack leaves out files that are refused with a section, or never sleep.
func (s *search) takeBack(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		forgotten := !e.Refused() && e.Spec.Dependency() && len(e.Needs) == 0
		if e.Sleeps() || forgotten || e.Spec.IdleTimeout == scale.Infinity {
			continue
		}
		changed = s.leave(e) || changed
	}
	return changed
}

// spareServers leaves out what is in the host's network and would only go with the
// others that it needs: it may well have clients, on a port that no file tells.
func (s *search) spareServers(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if e.Refused() || !e.Spec.Dependency() || !scale.InHostNetwork(e.Spec.File) || isNeeded(e, plan) {
			continue
		}
		if left := s.leave(e); left {
			changed = true
			s.refused[e.Spec.File.Name()] = quadlet.Diagnostic{
				Pos: s.original(e.Spec.File).UnitPos(), Message: "it is in the host's network, and on which port it has clients is not known",
				Hint: "if it has any, let it listen on another port, 8124, and write Listen=8123:8124 in [ScaleToZero]",
			}
		}
	}
	return changed
}

// isNeeded reports whether something needs a container that is not bound to that
// itself.
func isNeeded(e *generator.Endpoint, plan *generator.Plan) bool {
	return slices.ContainsFunc(e.NeededBy(), func(unit string) bool {
		return !slices.ContainsFunc(plan.Endpoints, func(app *generator.Endpoint) bool {
			return service(app.Spec.File) == unit && e.BoundTo(app)
		})
	})
}

// giveUp leaves out what nothing needs, as far as can be known.
func (s *search) giveUp(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if !e.Sleeps() {
			changed = s.leave(e) || changed
		}
	}
	return changed
}

// leave leaves a file without a section that it had not.
func (s *search) leave(e *generator.Endpoint) bool {
	name := e.Spec.File.Name()
	m := s.missing[name]
	if s.given[name] || m == nil || !m.section {
		return false
	}
	d := s.reason(e)
	if d.Severity != quadlet.Error {
		d.Message = "with a section, " + d.Message // as it is, it may well be started
	}
	s.refused[name] = d
	delete(s.missing, name)
	for _, other := range s.missing {
		other.forget(service(e.Spec.File))
	}
	return true
}

// addNeeds has those that use a container need it: it is not there for them
// otherwise, since inside a network nobody passes a socket.
func (s *search) addNeeds(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		for _, user := range s.users(e, plan) {
			if !s.needs(e, user) && !s.needs(user, e) {
				changed = s.of(s.original(user.Spec.File)).need(e.Spec.File) || changed
			}
		}
	}
	return changed
}

// spareCalled leaves out what is called by a container that runs without a section, and
// has a job that calls one need it.
func (s *search) spareCalled(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		for _, f := range s.outsiders(e, plan) {
			switch {
			case mentionsAny(e.Spec.File, f) || slices.Contains(e.NeededBy(), service(f)):
			case generator.Ends(f):
				changed = s.of(f).need(e.Spec.File) || changed
				changed = s.of(f).order(e.Spec.File) || changed
			case s.leave(e):
				changed = true
				s.refused[e.Spec.File.Name()] = quadlet.Diagnostic{
					Pos: f.UnitPos(), Message: f.Name() + ", which does not sleep, calls it by its name",
					Hint: "write Listen=NETWORK:PORT in [ScaleToZero], with which that wakes it",
				}
			}
		}
	}
	return changed
}

// mentionsAny reports whether [Unit] of a file names the service of another one.
func mentionsAny(f, other *quadlet.File) bool {
	return slices.ContainsFunc([]string{"Requires", "Wants", "BindsTo", "Upholds"}, func(key string) bool { return mentions(f, key, other) })
}

// needs reports whether one of two containers is needed by the other, or is going to
// be.
func (s *search) needs(used, user *generator.Endpoint) bool {
	m := s.missing[user.Spec.File.Name()]
	return slices.Contains(used.NeededBy(), service(user.Spec.File)) || used.BoundTo(user) ||
		m != nil && slices.Contains(m.requires, service(used.Spec.File))
}

// addOrder has a container start after what it needs, where neither of the two says in
// which order they start. What comes and goes with an app that it is bound to is left
// to it.
func (s *search) addOrder(plan *generator.Plan) (changed bool) {
	scaled := make(map[string]*generator.Endpoint)
	for _, e := range plan.Endpoints {
		scaled[service(e.Spec.File)] = e
	}
	for _, used := range plan.Endpoints {
		for _, n := range used.Needs {
			user := scaled[n.Unit]
			if user == nil || user.Refused() || used.Refused() || used.BoundTo(user) || isOwner(used, user) {
				continue
			}
			if f := s.original(user.Spec.File); !s.comesAfter(used.Spec.File, user.Spec.File) && !mentions(user.Spec.File, "After", used.Spec.File) {
				changed = s.of(f).order(used.Spec.File) || changed
			}
		}
	}
	return changed
}

// isOwner reports whether one container is in the network of another one: Quadlet
// orders the two.
func isOwner(owner, e *generator.Endpoint) bool {
	f, _ := e.Owner()
	return f != nil && f.Path == owner.Spec.File.Path
}

// comesAfter reports whether a file's service starts after another one, also by way of
// others.
func (s *search) comesAfter(f, other *quadlet.File) bool {
	seen := map[string]bool{f.Name(): true}
	for next := []*quadlet.File{f}; len(next) > 0; next = next[1:] {
		for _, g := range s.files {
			if seen[g.Name()] || !s.startsAfter(next[0], g) {
				continue
			}
			if g.Name() == other.Name() {
				return true
			}
			seen[g.Name()] = true
			next = append(next, g)
		}
	}
	return false
}

// startsAfter reports whether one of two files says so of the first, or is going to.
func (s *search) startsAfter(f, other *quadlet.File) bool {
	m := s.missing[f.Name()]
	return mentions(f, "After", other) || mentions(other, "Before", f) || m != nil && slices.Contains(m.after, service(other))
}

// original is a file as it is, without what has been added.
func (s *search) original(f *quadlet.File) *quadlet.File {
	return s.files[slices.IndexFunc(s.files, func(o *quadlet.File) bool { return o.Path == f.Path })]
}

// reason is why an endpoint does not sleep: the first error, or else what keeps it
// awake. A line that is only suggested is none to show.
func (s *search) reason(e *generator.Endpoint) quadlet.Diagnostic {
	d, known := e.Awake()
	if i := slices.IndexFunc(e.Diagnostics, func(d quadlet.Diagnostic) bool { return d.Severity == quadlet.Error }); i >= 0 {
		d = e.Diagnostics[i]
	} else if !known {
		d = quadlet.Diagnostic{Pos: e.Spec.File.UnitPos(), Message: "IdleTimeout=infinity"}
	}
	if added := s.Dropins[e.Spec.File.Name()]; added != nil && d.Pos.File == added.Path {
		d.Pos = s.original(e.Spec.File).UnitPos()
	}
	if !e.Refused() && e.Spec.Dependency() && len(e.Needs) == 0 {
		d = s.askPort(e.Spec.File, d)
	}
	return d
}

// service is the name of a file's.
func service(f *quadlet.File) string { return wire.Container.Of(f.Unit()) }
