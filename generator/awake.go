package generator

import (
	"path/filepath"
	"slices"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

const neverBoth = "leave one of the two out; PartOf= stops one unit with another, and starts nothing"

// checkCircles tells of containers that keep each other up, also by way of
// others.
func (p *Plan) checkCircles(starts map[string][]string) {
	for _, e := range p.Endpoints {
		for _, n := range e.Needs {
			if reaches(starts, e.name(wire.Container), n.Unit) {
				e.stayAwake(n.Pos, neverBoth,
					"%s and %s need each other: neither ever sleeps", n.Unit, e.name(wire.Container))
			}
		}
	}
}

// checkAwake tells of containers that never sleep since a service needs them that
// runs for good: it is not scaled, and brought up at boot, or by one that is scaled or
// runs for good itself.
func (p *Plan) checkAwake(files []*quadlet.File, starts map[string][]string) {
	always := make(map[string]bool)
	passing := make(map[string]bool) // sleep, or end by themselves
	pods := make(map[string]string)  // of containers, by the name of its file
	for _, f := range files {
		pod, _ := scale.PodOf(f)
		pods[wire.Container.Of(f.Unit())] = pod.Value
		passing[wire.Container.Of(f.Unit())] = scale.HasSection(f) || Ends(f) || stopsItself(f)
	}
	for _, o := range p.sleepingOwners() {
		passing[o.service()] = true
	}
	for _, e := range p.Endpoints {
		for _, m := range e.Members {
			passing[m.service()] = true
		}
	}
	var run func(unit string)
	run = func(unit string) {
		if !always[unit] && !passing[unit] {
			always[unit] = true
			for _, other := range starts[unit] {
				run(other)
			}
		}
	}
	for _, f := range files {
		if boots(f) {
			run(wire.Container.Of(f.Unit()))
		}
	}
	for _, e := range p.Endpoints {
		for _, service := range e.services() {
			for _, other := range starts[service] {
				run(other)
			}
		}
	}
	for _, e := range p.Endpoints {
		for _, n := range e.Needs {
			if always[n.Unit] {
				hint := "give the file of " + n.Unit + " a [ScaleToZero] section, or remove this line"
				if pods[n.Unit] == e.Spec.File.Name() {
					hint = "leave out StartWithPod=no, or [Install]: a container of the pod has no section of its own"
				}
				e.stayAwake(n.Pos, hint, "%s never sleeps: %s needs it, and does not sleep", e.name(wire.Container), n.Unit)
			}
		}
	}
}

// stayAwake warns of what keeps a container up for good.
func (e *Endpoint) stayAwake(pos quadlet.Pos, hint, format string, args ...any) {
	e.Diagnostics.Warnf(pos, hint, format, args...)
	e.awake = append(e.awake, e.Diagnostics[len(e.Diagnostics)-1])
}

// Awake is what keeps a container up for good, or never starts it, if anything
// does.
func (e *Endpoint) Awake() (quadlet.Diagnostic, bool) {
	if len(e.awake) == 0 {
		return quadlet.Diagnostic{}, false
	}
	return e.awake[0], true
}

// Sleeps reports whether the container stops when it is not used, as far as the
// files say.
func (e *Endpoint) Sleeps() bool {
	return !e.Refused() && len(e.awake) == 0 && (e.Spec.Dependency() || e.Spec.IdleTimeout != scale.Infinity)
}

// stopsItself reports whether a file that is not scaled has its service stop when nobody
// needs it.
func stopsItself(f *quadlet.File) bool {
	stops, _ := f.Last("Unit", "StopWhenUnneeded")
	yes, _ := scale.ParseBool(stops.Value)
	return yes && !boots(f)
}

// boots reports whether a target starts the file's service, as default.target
// does at boot.
func boots(f *quadlet.File) bool {
	for _, key := range []string{"WantedBy", "RequiredBy", "UpheldBy"} {
		for _, entry := range f.All("Install", key) {
			if slices.ContainsFunc(entry.Words(), func(w string) bool { return filepath.Ext(w) == ".target" }) {
				return true
			}
		}
	}
	return false
}

// starts are the services that each service starts: scaled ones, and those of
// files without the section, which may start one in turn.
func (p *Plan) starts(files []*quadlet.File) map[string][]string {
	starts := make(map[string][]string)
	scaled := p.byFile()
	services := make(map[string]string) // by the names that a file may give them
	for _, f := range files {
		services[f.Name()] = wire.Container.Of(f.Unit())
		services[wire.Container.Of(f.Unit())] = wire.Container.Of(f.Unit())
	}
	for _, f := range files {
		unit := wire.Container.Of(f.Unit())
		for _, key := range pulling() {
			for _, entry := range f.All("Unit", key) {
				for _, word := range entry.Words() {
					if service, ok := services[word]; ok && service != unit && !scaled[f].turned(service) {
						starts[unit] = append(starts[unit], service)
					}
				}
			}
		}
		if o := ownerOf(f, files); o != nil && !scaled[f].turned(o.service()) {
			starts[unit] = append(starts[unit], o.service())
		}
	}
	for _, e := range p.Endpoints {
		pod := e.name(wire.Container)
		for _, n := range e.Needs {
			starts[n.Unit] = append(starts[n.Unit], pod)
		}
		for _, m := range e.Members {
			starts[pod] = append(starts[pod], m.service())
			starts[m.service()] = append(starts[m.service()], pod) // BindsTo=
		}
	}
	return starts
}

// reaches reports whether one service starts another, also by way of others.
func reaches(starts map[string][]string, from, to string) bool {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		for _, unit := range starts[next[0]] {
			if unit == to {
				return true
			}
			if !seen[unit] {
				seen[unit] = true
				next = append(next, unit)
			}
		}
	}
	return false
}
