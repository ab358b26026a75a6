package scale

import (
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Network says how the container's ports are reached.
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
	if e, ok := s.File.Last("Container", "Pod"); ok && e.Value != "" {
		ds.Errorf(e.Pos, ownNetwork, "a container in a pod cannot be scaled by itself")
	}
	if s.Dependency() {
		return
	}
	for _, e := range s.File.All("Container", "PodmanArgs") {
		for _, arg := range e.Arguments() {
			switch option, _, _ := strings.Cut(arg, "="); option {
			case "--network", "--net", "--pod":
				ds.Errorf(e.Pos, "write Network= in [Container]", "%s in PodmanArgs= hides from zerolet how the container is reached", option)
			}
		}
	}
	for _, e := range s.File.All("Container", "Network") {
		mode, _, _ := strings.Cut(e.Value, ":")
		switch {
		case mode == "host":
			s.Network = Host
		case mode == "container" || mode == "ns" || strings.HasSuffix(mode, ".container"):
			ds.Errorf(e.Pos, ownNetwork, "a container in the network of another one cannot be scaled")
		case m == quadlet.System && (mode == "pasta" || mode == "slirp4netns"):
			ds.Errorf(e.Pos, "use a bridge network (Podman's default), or run the container in a user manager", "Network=%s is for rootless containers", mode)
		}
	}
}
