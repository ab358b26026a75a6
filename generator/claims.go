package generator

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Files that fight over a name or a port are told at the lines of both. The one
// that comes later is refused, so that a file never takes down one that works.

// clash refuses an endpoint for what another line has already. Both texts have
// the other's position after them.
func (e *Endpoint) clash(here, there quadlet.Pos, hint, mine, theirs string) {
	e.Diagnostics.Errorf(here, hint, "%s %s", mine, there)
	e.Elsewhere.Errorf(there, hint, "%s %s", theirs, here)
}

// checkNames refuses files that would share a unit with another file. One that
// would share its service with a scaled one gets no unit at all: it is the
// other file's.
func (p *Plan) checkNames(files []*quadlet.File) {
	const hint = "rename one of the two, the file or by ServiceName="
	endpoints := p.byMember()
	owners := make(map[string]*quadlet.File)
	for _, f := range files {
		name := wire.Container.Of(f.Unit())
		owner, taken := owners[name]
		if !taken {
			owners[name] = f
			continue
		}
		mine, theirs := name+" is already made of", name+" is also made of"
		if e, ok := endpoints[f]; ok {
			e.clash(f.UnitPos(), owner.UnitPos(), hint, mine, theirs)
			if e.Spec.File == f {
				e.Spec.Unit = ""
			}
		} else if e, ok := endpoints[owner]; ok {
			e.clash(owner.UnitPos(), f.UnitPos(), hint, theirs, mine)
		}
	}
	for _, f := range files {
		for _, alias := range f.All("Install", "Alias") {
			for _, name := range alias.Words() {
				if _, taken := owners[name]; !taken {
					owners[name] = f
				}
			}
		}
	}
	for _, e := range p.Endpoints {
		if e.Spec.Unit == "" {
			continue
		}
		for _, name := range e.reserved() {
			if owner, taken := owners[name]; taken {
				of := "the proxy"
				if _, healthy := wire.Healthy.Name(name); healthy {
					of = "the health check"
				}
				e.clash(e.Spec.File.UnitPos(), owner.UnitPos(), hint,
					name+", the name of "+of+", is a unit of",
					name+" is the name of "+of+" of")
			}
		}
	}
}

// made is a container or pod that Podman makes under a name.
type made struct {
	kind, name string
	file       *quadlet.File
	pos        quadlet.Pos
	hint       string // if its file does not say so
}

// checkContainers refuses a container or pod whose name another one has, too:
// --replace, which Quadlet writes, removes the one that runs.
func (p *Plan) checkContainers(files []*quadlet.File) {
	endpoints := p.byMember()
	type called struct{ kind, name string }
	owners := make(map[called]made)
	for _, m := range p.made(files) {
		owner, taken := owners[called{m.kind, m.name}]
		if !taken {
			owners[called{m.kind, m.name}] = m
			continue
		}
		if m.file != owner.file && m.file.Unit() == owner.file.Unit() {
			continue // told already
		}
		hint := cmp.Or(m.hint, "give one of the two another "+m.kind+"Name=")
		what := "a " + strings.ToLower(m.kind) + " " + m.name
		mine, theirs := what+" is already made at", what+" is also made at"
		if e, ok := endpoints[m.file]; ok {
			e.clash(m.pos, owner.pos, hint, mine, theirs)
		} else if e, ok := endpoints[owner.file]; ok {
			e.clash(owner.pos, m.pos, hint, theirs, mine)
		}
	}
}

// made is what has a name by its file, and then what has one by its stand-in: who is
// called as his file says does not give way.
func (p *Plan) made(files []*quadlet.File) []made {
	var all []made
	for _, f := range files {
		if name, known := podmanName(f); known {
			all = append(all, made{kind: f.Kind(), name: name, file: f, pos: podmanNamePos(f)})
		}
	}
	for _, e := range p.Endpoints {
		if e.Refused() || !e.hasStandIn() {
			continue
		}
		f, at := e.Spec.File, e.Spec.OnNetworks()[0].Pos
		all = append(all, made{"Container", e.standInName(), f, at, "the stand-in is called so after its service: rename that by ServiceName=, or the other container"})
		if e.standIn.renamed != "" {
			all = append(all, made{f.Kind(), e.standIn.renamed, f, at, "StandIn=rename calls it so: give one of the two another " + f.Kind() + "Name="})
		}
	}
	return all
}

// podmanName is what Podman calls the container or pod of a file, as far as that is
// known.
func podmanName(f *quadlet.File) (string, bool) {
	if f.Kind() == "Pod" {
		return f.PodName()
	}
	return f.ContainerName()
}

// podmanNamePos is where the file says so.
func podmanNamePos(f *quadlet.File) quadlet.Pos {
	if e, ok := f.Last(f.Kind(), f.Kind()+"Name"); ok && e.Value != "" {
		return e.Pos
	}
	return f.UnitPos()
}

func (p *Plan) byFile() map[*quadlet.File]*Endpoint {
	endpoints := make(map[*quadlet.File]*Endpoint)
	for _, e := range p.Endpoints {
		endpoints[e.Spec.File] = e
	}
	return endpoints
}

// byMember also has the containers of pods.
func (p *Plan) byMember() map[*quadlet.File]*Endpoint {
	endpoints := make(map[*quadlet.File]*Endpoint)
	for _, e := range p.Endpoints {
		for _, f := range e.Files() {
			endpoints[f] = e
		}
	}
	return endpoints
}

// claim is what only one socket of a machine can have, but for its address.
type claim struct {
	protocol string
	port     uint16
	path     string
	network  string // of the stand-in of a file, which no other shares
}

func claimOf(l scale.Listener) claim {
	c := claim{protocol: l.Protocol, port: l.HostPort, path: l.HostFile}
	if l.HostNetwork != "" {
		c.network = l.HostNetwork + " at " + l.Pos.String()
	}
	return c
}

func (c claim) String() string {
	if c.path != "" {
		return "socket " + c.path
	}
	return fmt.Sprintf("port %d/%s", c.port, c.protocol)
}

// claims are the sockets that lines of the files claim.
type claims map[claim][]scale.Listener

func (c claims) add(l scale.Listener) { c[claimOf(l)] = append(c[claimOf(l)], l) }

// others are those of other lines that exclude a line's, the first of each line.
func (c claims) others(listen []scale.Listener) [][2]scale.Listener {
	var found [][2]scale.Listener
	told := make(map[[2]quadlet.Pos]bool)
	for _, l := range listen {
		for _, other := range c[claimOf(l)] {
			if pair := [2]quadlet.Pos{l.Pos, other.Pos}; overlap(l, other) && !told[pair] {
				told[pair] = true
				found = append(found, [2]scale.Listener{l, other})
			}
		}
	}
	return found
}

const otherPort = "give one of the two another port or address"

// checkListeners refuses a socket that an earlier file, or an earlier line of
// the same file, has already claimed: systemd could bind only one of them.
func (p *Plan) checkListeners() {
	claimed := make(claims)
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		for _, pair := range claimed.others(e.Spec.Listen) {
			e.clash(pair[0].Pos, pair[1].Pos, otherPort,
				fmt.Sprintf("%s is already claimed at", claimOf(pair[0])), fmt.Sprintf("%s is claimed, too, at", claimOf(pair[0])))
		}
		own := make(claims)
		for _, l := range e.Spec.Listen {
			for _, pair := range own.others([]scale.Listener{l}) {
				e.Diagnostics.Errorf(l.Pos, otherPort, "%s is already claimed at %s", claimOf(l), pair[1].Pos)
			}
			own.add(l)
			if e.Spec.Network == scale.Host && !e.Spec.Native && !l.Unix() && l.HostNetwork == "" && l.HostPort == l.ContainerPort {
				e.Diagnostics.Errorf(l.Pos, "let the app listen on another port, and publish that: PublishPort=8080:80",
					"with Network=host the app takes this port itself")
			}
		}
		if e.Refused() {
			continue
		}
		for _, l := range e.Spec.Listen {
			claimed.add(l)
		}
	}
}

// overlap reports whether two sockets on one port or path exclude each other.
// The zero address stands for both families. "0.0.0.0" and "[::]" do not, but
// they are one endpoint to the proxy and must lead to one port.
func overlap(a, b scale.Listener) bool {
	switch {
	case a.HostPath != "", !a.Host.IsValid() || !b.Host.IsValid() || a.Host == b.Host:
		return true
	case a.Host.Is4() == b.Host.Is4():
		return a.Host.IsUnspecified() || b.Host.IsUnspecified()
	}
	return a.Host.IsUnspecified() && b.Host.IsUnspecified() && a.ContainerPort != b.ContainerPort
}

// checkPublished refuses a socket on a port that Podman publishes: only one of
// the two could have it.
func (p *Plan) checkPublished(files []*quadlet.File) {
	scaled := p.byFile()
	podman := make(claims)
	for _, f := range files {
		values := publishPorts(f)
		if e, ok := scaled[f]; ok {
			values = e.Spec.Published
		}
		for _, l := range published(values) {
			podman.add(l)
		}
	}
	for _, e := range p.Endpoints {
		for _, pair := range podman.others(e.Spec.Listen) {
			hint := otherPort
			if e.owner.publishes(pair[1].Pos) {
				hint = "remove it from " + e.owner.Name() + ": the app's own file says where to listen"
			}
			e.clash(pair[0].Pos, pair[1].Pos, hint,
				fmt.Sprintf("podman publishes %s, too, for", claimOf(pair[0])), fmt.Sprintf("%s is a socket of", claimOf(pair[0])))
		}
	}
}

// publishPorts are the ports that Podman publishes for a file: also for a pod
// and for what a .kube file plays.
func publishPorts(f *quadlet.File) []scale.Published {
	var out []scale.Published
	if f.IsTemplate() && f.DefaultInstance() == "" {
		return nil // it is no service
	}
	for _, e := range f.All(f.Kind(), "PublishPort") {
		value, _ := f.ExpandInstance(e.Value)
		out = append(out, scale.Published{Value: value, Pos: e.Pos})
	}
	return out
}

// published are the ports of the values, each by itself. What cannot be
// understood is passed over: it has no port that is known beforehand.
func published(values []scale.Published) []scale.Listener {
	var out []scale.Listener
	for _, v := range values {
		ports, err := scale.ParsePublish(v.Value)
		if err != nil {
			continue
		}
		for _, p := range ports {
			for _, one := range p.Each() {
				out = append(out, scale.Listener{Publish: one, Pos: v.Pos})
			}
		}
	}
	return out
}
