package generator

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Endpoint is one scaled container: what its file asks for, how the proxy
// reaches it, and what Quadlet made of it. An endpoint whose diagnostics have
// an error is refused: it gets a unit that says so, and nothing listens.
type Endpoint struct {
	Spec        *quadlet.Spec
	Forwards    []Forward
	Service     *quadlet.File // nil while not converted, or refused
	Diagnostics quadlet.Diagnostics

	manager quadlet.Manager
}

// Forward leads from a listening socket to the app.
type Forward struct {
	Listen quadlet.Listener
	Target netip.AddrPort // inside the container's network where that is its own
}

// Plan is what one run of the generator is going to write.
type Plan struct {
	Manager     quadlet.Manager
	Endpoints   []*Endpoint         // in the order of the files
	Diagnostics quadlet.Diagnostics // about no endpoint in particular
}

// NewPlan makes an endpoint of every scaled file and settles what concerns
// several files: names, ports that two of them claim, private ports.
func NewPlan(m quadlet.Manager, files []*quadlet.File) *Plan {
	p := &Plan{Manager: m}
	for _, f := range files {
		if !f.Scaled() {
			continue
		}
		spec, ds := quadlet.NewSpec(f, m)
		p.Endpoints = append(p.Endpoints, &Endpoint{Spec: spec, Diagnostics: ds, manager: m})
	}
	p.checkNames(files)
	p.checkListeners()
	p.forward(files)
	return p
}

// Refused tells whether the endpoint has an error.
func (e *Endpoint) Refused() bool { return e.Diagnostics.HasErrors() }

// namespaced tells whether the proxy dials inside the container's network
// namespace. Only a user's proxy can enter it, and only where it is its own.
func (e *Endpoint) namespaced() bool {
	return e.manager == quadlet.User && e.Spec.Network == quadlet.Namespace
}

// published tells whether Podman publishes a private port for the proxy.
func (e *Endpoint) published() bool {
	return e.manager == quadlet.System && e.Spec.Network == quadlet.Namespace
}

// pidFile is where Podman writes the container's pid for the proxy, as a value
// of a unit: %t is the runtime directory of the manager.
func (e *Endpoint) pidFile() string { return "%t/" + e.Spec.Unit + ".pid" }

// checkNames refuses files that would share a unit with another file.
func (p *Plan) checkNames(files []*quadlet.File) {
	owners := make(map[string]*quadlet.File)
	for _, f := range files {
		if owner, taken := owners[f.Unit()]; taken {
			p.refuse(f, quadlet.Pos{File: f.Path}, "%s.service is already made of %s", f.Unit(), owner.Path)
			continue
		}
		owners[f.Unit()] = f
	}
	for _, e := range p.Endpoints {
		if owner, taken := owners[e.Spec.Unit+"-proxy"]; taken {
			e.Diagnostics.Errorf(quadlet.Pos{File: e.Spec.File.Path}, "rename one of the two files",
				"%s-proxy.service, the name of the proxy, is made of %s", e.Spec.Unit, owner.Path)
		}
	}
}

func (p *Plan) refuse(f *quadlet.File, pos quadlet.Pos, format string, args ...any) {
	for _, e := range p.Endpoints {
		if e.Spec.File == f {
			e.Diagnostics.Errorf(pos, "", format, args...)
		}
	}
}

// checkListeners refuses a socket that an earlier file, or an earlier line of
// the same file, has already claimed: systemd could bind only one of them.
func (p *Plan) checkListeners() {
	claimed := make(map[uint16][]quadlet.Listener)
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		for _, l := range e.Spec.Listen {
			for _, other := range claimed[l.HostPort] {
				if overlap(l, other) {
					e.Diagnostics.Errorf(l.Pos, "give one of the two another port or address",
						"port %d is already claimed at %s", l.HostPort, other.Pos)
					break
				}
			}
			if e.Spec.Network == quadlet.Host && l.HostPort == l.ContainerPort {
				e.Diagnostics.Errorf(l.Pos, "let the app listen on another port, and publish that: PublishPort=8080:80",
					"with Network=host the app takes port %d itself", l.HostPort)
			}
		}
		if e.Refused() {
			continue
		}
		for _, l := range e.Spec.Listen {
			claimed[l.HostPort] = append(claimed[l.HostPort], l)
		}
	}
}

// overlap tells whether two sockets on one host port exclude each other. The
// zero address stands for both families. "0.0.0.0" and "[::]" do not, but
// they are one endpoint to the proxy and must lead to one port.
func overlap(a, b quadlet.Listener) bool {
	switch {
	case !a.Host.IsValid() || !b.Host.IsValid() || a.Host == b.Host:
		return true
	case a.Host.Is4() == b.Host.Is4():
		return a.Host.IsUnspecified() || b.Host.IsUnspecified()
	}
	return a.Host.IsUnspecified() && b.Host.IsUnspecified() && a.ContainerPort != b.ContainerPort
}

// forward decides how the proxy reaches each port.
func (p *Plan) forward(files []*quadlet.File) {
	private := newPrivatePorts(files)
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		for _, l := range e.Spec.Listen {
			port := l.ContainerPort
			if e.published() {
				var ok bool
				if port, ok = private.take(e.Spec.Unit, l.ContainerPort); !ok {
					e.Diagnostics.Errorf(l.Pos, "", "no private port from %d to %d is left", firstPrivate, lastPrivate)
					break
				}
			}
			e.Forwards = append(e.Forwards, Forward{Listen: l, Target: netip.AddrPortFrom(loopback, port)})
		}
	}
}

// Convert has Quadlet make the container's service of every endpoint that is
// not refused.
func (p *Plan) Convert(ctx context.Context, c quadlet.Converter) {
	var overrides []quadlet.Override
	var endpoints []*Endpoint
	for _, e := range p.Endpoints {
		if !e.Refused() {
			overrides = append(overrides, e.override())
			endpoints = append(endpoints, e)
		}
	}
	results, ds := c.Convert(ctx, overrides)
	p.Diagnostics = append(p.Diagnostics, ds...)
	for i, r := range results {
		endpoints[i].Service = r.Service
		endpoints[i].Diagnostics = append(endpoints[i].Diagnostics, r.Diagnostics...)
	}
}

// override takes the scaled ports away from Podman, and lets the proxy find
// the container.
func (e *Endpoint) override() quadlet.Override {
	o := quadlet.Override{File: e.Spec.File, Published: e.Spec.Published}
	if e.namespaced() {
		o.PodmanArgs = append(o.PodmanArgs, "--pidfile="+e.pidFile())
	}
	if e.published() {
		seen := make(map[netip.AddrPort]bool)
		for _, f := range e.Forwards {
			if !seen[f.Target] {
				o.Published = append(o.Published, fmt.Sprintf("%s:%d", f.Target, f.Listen.ContainerPort))
			}
			seen[f.Target] = true
		}
	}
	return o
}

// All are the diagnostics of the plan and of every endpoint, in a stable order.
func (p *Plan) All() quadlet.Diagnostics {
	all := append(quadlet.Diagnostics(nil), p.Diagnostics...)
	for _, e := range p.Endpoints {
		all = append(all, e.Diagnostics...)
	}
	all.Sort()
	return all
}

// Select keeps the endpoints of the named services or files.
func (p *Plan) Select(names []string) error {
	var kept []*Endpoint
	for _, name := range names {
		found := false
		for _, e := range p.Endpoints {
			if e.named(name) {
				kept, found = append(kept, e), true
			}
		}
		if !found {
			return fmt.Errorf("no scaled container %q", name)
		}
	}
	p.Endpoints = kept
	return nil
}

func (e *Endpoint) named(name string) bool {
	return name == e.Spec.File.Path || strings.TrimSuffix(name, ".container") == strings.TrimSuffix(e.Spec.File.Name(), ".container") ||
		strings.TrimSuffix(name, ".service") == e.Spec.Unit
}
