package scale

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Network says how the ports of a container or a pod are reached.
type Network int

const (
	// Namespace is a network namespace of the container's own.
	Namespace Network = iota
	// Host is the host's network: the app binds host addresses itself.
	Host
)

const ownNetwork = "give it a network of its own: containers on one Network=NAME.network reach each other by name"

// readNetwork refuses the networks in which the proxy cannot reach the app. A
// dependency has no proxy.
func (s *Spec) readNetwork(m quadlet.Manager, ds *quadlet.Diagnostics) {
	kind, what := s.File.Kind(), s.What()
	if e, ok := PodOf(s.File); ok {
		ds.Errorf(e.Pos, "move [ScaleToZero] to "+e.Value+": a pod wakes and sleeps as a whole", "a container in a pod cannot be scaled by itself")
	}
	if s.Dependency() {
		return
	}
	for _, e := range s.File.All(kind, "PodmanArgs") {
		for _, arg := range e.Arguments() {
			switch option, _, _ := strings.Cut(arg, "="); option {
			case "--network", "--net", "--pod":
				ds.Errorf(e.Pos, "write Network= in ["+kind+"]", "%s in PodmanArgs= hides from zerolet how the %s is reached", option, what)
			}
		}
	}
	for _, e := range s.File.All(kind, "Network") {
		mode, _, _ := strings.Cut(e.Value, ":")
		switch {
		case mode == "host":
			s.Network = Host
		case mode == "ns", kind == "Pod" && (mode == "container" || strings.HasSuffix(mode, ".container")):
			ds.Errorf(e.Pos, ownNetwork, "a %s in the network of another one cannot be scaled", what)
		case m == quadlet.System && (mode == "pasta" || mode == "slirp4netns"):
			ds.Errorf(e.Pos, "use a bridge network (Podman's default), or run the "+what+" in a user manager", "Network=%s is for rootless containers", mode)
		}
	}
}

// Joined is the assignment by which a container is in the network of another
// one, its owner: Network=NAME.container of Quadlet's, or Podman's own
// container:NAME. A container has no other network then (podman-run(1), --network).
func Joined(f *quadlet.File) (quadlet.Entry, bool) {
	for _, e := range f.All("Container", "Network") {
		if mode, _, _ := strings.Cut(e.Value, ":"); mode == "container" || strings.HasSuffix(mode, ".container") {
			return e, true
		}
	}
	return quadlet.Entry{}, false
}

// InHostNetwork reports whether a container has no network of its own, as far as
// its file says.
func InHostNetwork(f *quadlet.File) bool {
	return slices.ContainsFunc(f.All("Container", "Network"), func(e quadlet.Entry) bool {
		mode, _, _ := strings.Cut(e.Value, ":")
		return mode == "host"
	})
}
