package scale

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// checkSocketUser tells that only root gives away what it makes (chown(2)).
func (s *Spec) checkSocketUser(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if s.search.Manager == quadlet.User {
		ds.Errorf(e.Pos, "let others in with SocketGroup=, a group that you are in, and SocketMode=0660",
			"a user's manager cannot give a socket to another user")
	}
}

// checkAllowed tells where AllowFrom= does nothing.
func (s *Spec) checkAllowed(e quadlet.Entry, ds *quadlet.Diagnostics) {
	for _, l := range s.Listen {
		if l.HostPath != "" {
			ds.Warnf(e.Pos, "say who may connect to it with SocketMode= and SocketGroup=", "AllowFrom= does not apply to the unix socket %s", l.HostPath)
		}
	}
}

// datagrams reports whether a listener is none of connections.
func (l Listener) datagrams() bool { return l.Protocol == "udp" }

// checkReadyCheck tells what cannot be asked in datagrams.
func (s *Spec) checkReadyCheck(e quadlet.Entry, ds *quadlet.Diagnostics) {
	asked := slices.ContainsFunc(s.Listen, func(l Listener) bool { return !l.datagrams() })
	if strings.HasPrefix(s.ReadyCheck, "http:") && !asked {
		ds.Errorf(e.Pos, "write tcp, or add the port that answers HTTP", "ReadyCheck=http: needs a port that is not udp")
	}
}

// checkExclusive tells that nobody knows the instances of a template.
func (s *Spec) checkExclusive(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.ExclusivePos = e.Pos
	if strings.HasSuffix(s.Unit, "@") {
		ds.Errorf(e.Pos, "leave it out", "Exclusive= is not for a template, whose instances are not known")
	}
}

// checkProxyProtocol tells what cannot be told in datagrams.
func (s *Spec) checkProxyProtocol(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if s.ProxyProtocol != "no" && slices.ContainsFunc(s.Listen, Listener.datagrams) {
		ds.Errorf(e.Pos, "name only the tcp ports with Listen=", "ProxyProtocol= is not for udp: neither HAProxy nor nginx reads it there")
	}
}
