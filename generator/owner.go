package generator

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// A container may be in the network of another one, its owner: apps behind a VPN
// are. The two come and go together. A new owner is a new network, so whoever has
// joined the old one must go with it: BindsTo= (systemd.unit(5)). Quadlet's own
// Requires= is not about an owner that dies.

// owner is the container whose network an endpoint's is in.
type owner struct {
	*quadlet.File
	joined quadlet.Entry // the Network= that says so
}

// Owner is the file of the container whose network the endpoint's is in, and where
// its own file says so; nil if that network is its own.
func (e *Endpoint) Owner() (*quadlet.File, quadlet.Pos) {
	if e.owner == nil {
		return nil, quadlet.Pos{}
	}
	return e.owner.File, e.owner.joined.Pos
}

// publishes reports whether a position is that of a port that the owner has Podman
// publish.
func (o *owner) publishes(at quadlet.Pos) bool {
	return o != nil && slices.ContainsFunc(publishPorts(o.File), func(p scale.Published) bool { return p.Pos == at })
}

// followOwner has the container come and go with its owner. One that is part of that
// must not keep it up: when the owner dies, Podman removes its container
// (leavesNothing), and the owner brings it up again.
func (e *Endpoint) followOwner(u *Unit) {
	if e.owner == nil {
		return
	}
	if !e.isApp(e.owner.service()) {
		set(u, "Unit", "BindsTo", e.owner.service())
	}
	set(u, "Unit", "After", e.owner.service())
}

func (o *owner) service() string { return wire.Container.Of(o.Unit()) }

// ownerOf finds the owner of a file's container, nil if it has joined no other or
// one of which no file is known.
func ownerOf(f *quadlet.File, files []*quadlet.File) *owner {
	e, ok := scale.Joined(f)
	if !ok {
		return nil
	}
	name, literal := strings.CutPrefix(e.Value, "container:")
	for _, other := range files {
		called, known := other.ContainerName()
		if other.Kind() == "Container" && other != f && (!literal && other.Name() == name || literal && known && called == name) {
			return &owner{other, e}
		}
	}
	return nil
}

// findOwners finds the owners of the endpoints, and refuses what cannot share a
// network.
func (p *Plan) findOwners(files []*quadlet.File) {
	for _, e := range p.Endpoints {
		e.owner = ownerOf(e.Spec.File, files)
		e.checkOwner(files)
	}
	p.checkSharedPorts(files)
}

// checkOwner refuses an owner that is not there, or that leads nowhere.
func (e *Endpoint) checkOwner(files []*quadlet.File) {
	joined, ok := scale.Joined(e.Spec.File)
	name, literal := strings.CutPrefix(joined.Value, "container:")
	switch {
	case !ok:
	case e.owner == nil && !literal:
		e.Diagnostics.Errorf(joined.Pos, "name the file of a container, such as vpn.container", "there is no %s", joined.Value)
	case e.owner == nil && !e.Spec.Dependency(): // else nobody but Podman has to know it
		e.Diagnostics.Errorf(joined.Pos, "write Network=NAME.container, and let that file make the container",
			"no file makes a container %q, which would have to start before this one", name)
	case e.owner == nil:
	case e.inCircle(files):
		e.Diagnostics.Errorf(joined.Pos, "let one of them have a network of its own", "containers are in the network of each other")
	case scale.InHostNetwork(e.owner.File) && !e.Spec.Dependency() && e.Spec.DialsPorts():
		e.Diagnostics.Errorf(joined.Pos, "write Network=host here, too", "%s is in the network of the host", e.owner.Name())
	}
	if !ok {
		return
	}
	for _, p := range e.Spec.Published {
		e.Diagnostics.Errorf(p.Pos, "name it in Listen=, or move it to "+joined.Value,
			"podman publishes no port of a container in the network of another one")
	}
}

// inCircle reports whether an owner leads back to the endpoint's own file.
func (e *Endpoint) inCircle(files []*quadlet.File) bool {
	seen := make(map[*quadlet.File]bool)
	for o := e.owner; o != nil && !seen[o.File]; o = ownerOf(o.File, files) {
		if o.File == e.Spec.File {
			return true
		}
		seen[o.File] = true
	}
	return false
}

// checkSharedPorts refuses two apps on one port of one network: the second could not
// listen, and its clients would be the first one's.
func (p *Plan) checkSharedPorts(files []*quadlet.File) {
	type inside struct {
		network  *quadlet.File
		protocol string
		port     uint16
	}
	type app struct {
		*Endpoint
		listener scale.Listener
	}
	apps := make(map[inside]app)
	for _, e := range p.Endpoints {
		network := networkOf(e.Spec.File, files)
		for _, l := range e.Spec.Listen {
			if e.Refused() || e.Spec.Native || l.ContainerPath != "" {
				continue
			}
			key := inside{network, l.Protocol, l.ContainerPort}
			other, taken := apps[key]
			switch {
			case !taken:
				apps[key] = app{e, l}
			case other.Endpoint != e:
				inside := claim{protocol: l.Protocol, port: l.ContainerPort}.String()
				e.clash(l.Pos, other.listener.Pos, "let one of the two apps listen on another port",
					inside+" in the network that both share is already the app's of",
					inside+" in the network that both share is also the app's of")
			}
		}
	}
}

// networkOf is the file whose container has made the network of another: itself, if
// that has joined none.
func networkOf(f *quadlet.File, files []*quadlet.File) *quadlet.File {
	seen := make(map[*quadlet.File]bool)
	for o := ownerOf(f, files); o != nil && !seen[f]; o = ownerOf(f, files) {
		seen[f] = true
		f = o.File
	}
	return f
}

// joinedNeeds notes who has joined the network of a scaled container.
func joinedNeeds(files []*quadlet.File, endpoints map[string]*Endpoint) {
	for _, f := range files {
		o := ownerOf(f, files)
		if o == nil {
			continue
		}
		if e, ok := endpoints[o.Name()]; ok && e.Spec.File == o.File {
			e.joined = true
			for _, key := range []string{"BindsTo", "After"} {
				e.need(wire.Container.Of(f.Unit()), dependency{key, o.service()}, o.Name(), o.joined.Pos)
			}
		}
	}
}

// ownerUnits are drop-ins for the owners that sleep with those who have joined them.
func (p *Plan) ownerUnits() []Unit {
	var units []Unit
	for _, o := range p.sleepingOwners() {
		u := Unit{Name: filepath.Join(o.service()+".d", "50-zerolet.conf"), Source: o.Path}
		stopsUnneeded(&u, o.File)
		endsBySIGTERM(&u)
		leavesNothing(&u, o.File)
		units = append(units, u)
	}
	return units
}

// sleepingOwners are those without a section that nothing but those who have joined
// them starts, and that nobody else can reach: they sleep with the last of these. What
// the file says itself remains.
func (p *Plan) sleepingOwners() (owners []*owner) {
	scaled, seen := p.byFile(), make(map[*quadlet.File]bool)
	for _, e := range p.Endpoints {
		o := e.owner
		if e.Refused() || o == nil || seen[o.File] || scaled[o.File] != nil || !scale.ValidUnit(o.Unit()) {
			continue
		}
		seen[o.File] = true
		if !boots(o.File) && len(publishPorts(o.File)) == 0 && !declared(o.File, "Unit", "StopWhenUnneeded") {
			owners = append(owners, o)
		}
	}
	return owners
}

// leavesNothing has an owner that dies take those along who have joined its network.
// Podman removes no container on which another one depends (podman-rm(1), --depend),
// and they are stopped only afterwards.
func leavesNothing(u *Unit, owner *quadlet.File) {
	if name, known := owner.ContainerName(); known {
		set(u, "Service", "ExecStopPost", "-:podman rm -v -f -i --depend "+word(literal(name)))
	}
}
