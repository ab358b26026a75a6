package generator

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Endpoint is one scaled container or pod: what its file asks for, how the proxy
// reaches it, and what Quadlet made of it. An endpoint whose diagnostics have
// an error is refused: it gets a unit that says so, and nothing listens.
type Endpoint struct {
	Spec        *scale.Spec
	Forwards    []Forward     // none if it is a dependency: then it has no socket and no proxy
	Needs       []Need        // in the order of the files
	PartOf      []string      // the units with which it is stopped, and its socket
	Service     *quadlet.File // nil while not converted, or refused
	Members     []*Member     // the containers of a pod, in the order of the files
	Diagnostics quadlet.Diagnostics
	Elsewhere   quadlet.Diagnostics // at the lines of files that claim what it does

	images   map[string]string // of .image and .build files
	networks []network
	standIn  standIn
	owner    *owner              // nil if the container's network is its own
	joined   bool                // others are in its network
	bound    []bound             // with what it comes and goes, though its file is bound to that
	awake    quadlet.Diagnostics // what keeps it up for good, or never starts it
	manager  quadlet.Manager
	search   quadlet.Search
	admin    adminUnit
	rivals   []*Endpoint // with the same Exclusive=
	frozen   []*Endpoint // by its proxy, itself first; none: it is stopped
	frozenBy *Endpoint   // whose proxy freezes it, though it has none
	required []string    // services without which its own do not run
	crowded  bool        // with the others it is one of more than start at a time
}

// Forward leads from a listening socket to the app.
type Forward struct {
	Listen scale.Listener
	// Target is where the app listens unless that is a unix socket, inside the
	// container's network where that is its own.
	Target netip.AddrPort
	// Device is the stand-in's interface in the network of Listen.
	Device string
}

// Plan is what one run of the generator is going to write.
type Plan struct {
	Manager     quadlet.Manager
	Sources     *quadlet.Sources    // where the files were found
	Endpoints   []*Endpoint         // in the order of the files
	Search      quadlet.Diagnostics // of the search for files: with an error, some may be missing
	Diagnostics quadlet.Diagnostics // about no endpoint in particular

	adminUnit func(name string) (exists, masked bool)
	nameTaken bool // a file has the name of the units of Removal
	places    int  // how many containers start at a time
}

// NewPlan makes an endpoint of every scaled file and settles what
// concerns several files, of all kinds: names, and ports that two of them claim.
func NewPlan(s quadlet.Search, files []*quadlet.File) *Plan {
	p := &Plan{Manager: s.Manager}
	files = withoutTwins(files)
	pods := scaledPods(files)
	for _, f := range files {
		p.tellOnce(scale.Mistyped(f))
		switch {
		case !scale.Scales(f):
			p.Diagnostics = append(p.Diagnostics, scale.Misplaced(f)...)
			continue
		case !scale.HasSection(f), pods.of(f) != nil, LeftToInstances(f, files):
			continue
		}
		spec, ds := scale.Read(f, s)
		p.Endpoints = append(p.Endpoints, &Endpoint{Spec: spec, Diagnostics: ds, manager: s.Manager, search: s})
	}
	p.findMembers(files, pods)
	p.findStandIns(files)
	p.checkNames(files)
	p.checkContainers(files)
	p.checkRemoved(files)
	p.checkListeners()
	p.checkHostPorts()
	p.findOwners(files)
	p.checkPublished(files)
	p.forward()
	p.findNeeds(files)
	p.findRivals(files)
	p.findNetworks(files)
	p.findImages(files)
	p.findFrozen()
	p.findRequired(files)
	for _, e := range p.Endpoints {
		e.checkOnFailure()
		e.checkHealth()
		e.checkHealthFrozen()
	}
	return p
}

// Refused reports whether the endpoint has an error.
func (e *Endpoint) Refused() bool { return e.Diagnostics.HasErrors() }

// Inside reports whether the app is dialled inside the container's network
// namespace, which it is wherever that is its own.
func (e *Endpoint) Inside() bool { return e.Spec.Inside() }

// asksPID reports whether Podman has to say when the container starts: its
// process is to be found, or each container to be asked whether it is ready.
func (e *Endpoint) asksPID() bool { return e.Inside() || e.asksHTTP() }

func (e *Endpoint) asksHTTP() bool { return strings.HasPrefix(e.Spec.ReadyCheck, "http:") }

// startedByProxy reports whether the proxy starts before it is known that the
// client may wake the container. The system's manager keeps away whose address
// may not.
func (e *Endpoint) startedByProxy() bool {
	return e.manager == quadlet.User && len(e.Spec.AllowFrom) > 0 || e.Spec.Fronted()
}

// pidFile is where Podman writes the container's pid for the proxy, as a value
// of a unit: %t is the runtime directory of the manager.
func (e *Endpoint) pidFile() string { return "%t/" + e.Spec.Unit + ".pid" }

// forward leads each public socket to the app.
func (p *Plan) forward() {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		for _, l := range e.Spec.Listen {
			e.Forwards = append(e.Forwards, Forward{
				Listen: l, Target: netip.AddrPortFrom(loopback, l.ContainerPort), Device: e.device(l),
			})
		}
	}
}

// Convert has Quadlet make the container's service of every endpoint that is
// not refused.
func (p *Plan) Convert(ctx context.Context, c convert.Config) {
	var overrides []convert.Override
	var take []func(convert.Result)
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		overrides = append(overrides, e.override())
		take = append(take, func(r convert.Result) { e.take(&e.Service, r) })
		for _, m := range e.Members {
			overrides = append(overrides, m.override(e))
			take = append(take, func(r convert.Result) { e.take(&m.Service, r) })
		}
	}
	results, ds := convert.Run(ctx, c, overrides)
	p.Diagnostics = append(p.Diagnostics, ds...)
	for i, r := range results {
		take[i](r)
	}
	p.findParts()
	p.findCrowd()
}

// take is given what became of one of the endpoint's files.
func (e *Endpoint) take(service **quadlet.File, r convert.Result) {
	*service = r.Service
	e.Diagnostics = append(e.Diagnostics, r.Diagnostics...)
	e.checkLines(r.Service)
}

// checkLines refuses a unit that systemd would not load for the length of a
// line (LONG_LINE_MAX in systemd's src/basic/def.h; tried on 257).
func (e *Endpoint) checkLines(service *quadlet.File) {
	const longest = 1<<20 - 1
	if service == nil {
		return
	}
	for _, entry := range service.Entries {
		if n := len(entry.Key) + len("=") + len(entry.Value); n > longest {
			e.Diagnostics.Errorf(e.longestLine(), "put long values into a file: EnvironmentFile=, Secret= or Volume=",
				"%s= of the service is a line of %d bytes, systemd takes no more than %d", entry.Key, n, longest)
		}
	}
}

// longestLine is where the longest value of the files stands.
func (e *Endpoint) longestLine() quadlet.Pos {
	var entries []quadlet.Entry
	for _, f := range e.Files() {
		entries = append(entries, f.Entries...)
	}
	return slices.MaxFunc(entries, func(a, b quadlet.Entry) int { return len(a.Value) - len(b.Value) }).Pos
}

// override takes the scaled ports away from Podman, and lets the proxy find
// the container.
func (e *Endpoint) override() convert.Override {
	o := convert.Override{
		File:     e.Spec.File,
		Settings: []convert.Setting{{Key: "PublishPort"}},
		Newer:    startupCheck(e.Spec.File),
	}
	for _, p := range e.Spec.Published {
		o.Settings = append(o.Settings, convert.Setting{Key: "PublishPort", Value: p.Value})
	}
	if e.hasStandIn() {
		o.Settings = append(o.Settings, e.aside()...)
	}
	switch {
	case e.isPod():
		o.Settings = append(o.Settings, keepPod)
	case e.isKube(): // podman kube play tells nobody of pids
	case e.asksPID():
		o.Settings = append(o.Settings, convert.Setting{Key: "PodmanArgs", Value: word("--pidfile=" + e.pidFile())})
	}
	return o
}

// All are the diagnostics of the plan and of every endpoint, in a stable order,
// each once.
func (p *Plan) All() quadlet.Diagnostics {
	all := append(append(quadlet.Diagnostics(nil), p.Search...), p.Diagnostics...)
	merged := make(map[quadlet.Diagnostic][]string) // what drop-ins say that may be for several files: the files
	for _, e := range p.Endpoints {
		for _, d := range e.Diagnostics {
			if name := e.Spec.File.Name(); e.shared(d.Pos.File) && !slices.Contains(merged[d], name) {
				merged[d] = append(merged[d], name)
			}
		}
	}
	for _, e := range p.Endpoints {
		all = append(all, e.Elsewhere...)
		for _, d := range e.Diagnostics {
			if names := merged[d]; len(names) > 0 && names[0] == e.Spec.File.Name() {
				d.Message += " (merged into " + some(names) + ")"
				all = append(all, d)
			} else if len(names) == 0 {
				all = append(all, d)
			}
		}
	}
	all.Sort()
	return all.Fold()
}

// shared reports whether a file is a drop-in that does not name the endpoint's
// alone: it is in container.d or the like.
func (e *Endpoint) shared(path string) bool {
	return filepath.Ext(path) == ".conf" && !slices.ContainsFunc(e.Files(), func(f *quadlet.File) bool {
		return filepath.Base(filepath.Dir(path)) == f.Name()+".d"
	})
}

// some are the first of many names.
func some(names []string) string {
	const most = 3
	if n := len(names) - most; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), n)
	}
	return strings.Join(names, " ")
}

// Select keeps the endpoints of the named services or files. Of other files it notes why
// they are none, as long as there is one endpoint.
func (p *Plan) Select(names []string) error {
	var kept []*Endpoint
	var others quadlet.Diagnostics
	for _, name := range names {
		found := false
		for _, e := range p.Endpoints {
			if e.named(name) {
				kept, found = append(kept, e), true
			}
		}
		if found {
			continue
		}
		d, known := p.unscaled(name)
		if !known {
			return fmt.Errorf("no scaled container %q", name)
		}
		others = append(others, d)
	}
	if len(kept) == 0 {
		return fmt.Errorf("no scaled container %q: %s", names[0], others[0].Message)
	}
	p.Endpoints = kept
	p.tellOnce(others)
	return nil
}

// named reports whether a person means this endpoint, perhaps by a container of its
// pod.
func (e *Endpoint) named(name string) bool {
	return slices.ContainsFunc(e.Files(), func(f *quadlet.File) bool { return isNamed(f, name) })
}

// isNamed reports whether a person means a file.
func isNamed(f *quadlet.File, name string) bool {
	file := f.Name()
	return name == f.Path || name == file || name == strings.TrimSuffix(file, filepath.Ext(file)) ||
		strings.TrimSuffix(name, ".service") == f.Unit()
}
