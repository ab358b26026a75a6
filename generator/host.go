package generator

import (
	"net/netip"

	"github.com/zerolet/zerolet/quadlet/scale"
)

// checkHostPorts refuses an app in the host's network whose own port is a socket
// of this or another file: the app could not listen there, and clients would be
// led from one socket to the other.
func (p *Plan) checkHostPorts() {
	sockets := make(map[claim][]scale.Listener)
	for _, e := range p.Endpoints {
		for _, l := range e.Spec.Listen {
			if !e.Refused() && !l.Unix() && l.HostNetwork == "" && onLoopback(l) {
				sockets[claimOf(l)] = append(sockets[claimOf(l)], l)
			}
		}
	}
	for _, e := range p.Endpoints {
		if e.Refused() || e.Spec.Network != scale.Host || e.Spec.Native {
			continue
		}
		for _, l := range e.Spec.Listen {
			taken := sockets[claim{protocol: l.Protocol, port: l.ContainerPort}]
			if l.ContainerPath == "" && len(taken) > 0 {
				e.Diagnostics.Errorf(l.Pos, "let the app listen on another port",
					"with Network=host the app takes port %d itself, which is claimed at %s", l.ContainerPort, taken[0].Pos)
			}
		}
	}
}

// onLoopback reports whether a socket is where an app in the host's network is
// looked for.
func onLoopback(l scale.Listener) bool {
	return !l.Host.IsValid() || l.Host.IsUnspecified() || l.Host == netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
