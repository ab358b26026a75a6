package scale

import (
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// checkLocal warns where clients become somebody else by passing through the
// proxy: on a unix socket the app is told who is at the other end (SO_PEERCRED,
// unix(7)), and that is the proxy. The user's own runs with the user's uid,
// which many apps take for a proof. The PROXY protocol tells the app where a
// client of a port is, but calls one of a unix socket local.
func (s *Spec) checkLocal(ds *quadlet.Diagnostics) {
	seen := "a dynamic user"
	if s.search.Manager == quadlet.User {
		seen = "you"
	}
	for _, l := range s.Listen {
		switch {
		case l.ContainerPath == "":
		case l.HostPath == "" && s.ProxyProtocol == "no":
			ds.Warnf(l.Pos, `have the app ask local clients for a password, too, or give it a port: docs/internals/security.md, "Local means trusted"`,
				"the app takes every client of port %d for a local one, and for %s: it sees the proxy on %s", l.HostPort, seen, l.ContainerPath)
		case l.HostPath != "" && s.search.Manager == quadlet.User && s.letsOthersIn(l):
			ds.Warnf(l.Pos, "keep others out with SocketMode=0600, or with a path below %t",
				"the app takes every client of %s for you: it sees the proxy on %s", l.HostPath, l.ContainerPath)
		}
	}
}

// letsOthersIn reports whether other users may connect to a public unix socket,
// which takes the right to write to it (unix(7)). The runtime directory is the
// user's alone (XDG Base Directory Specification).
func (s *Spec) letsOthersIn(l Listener) bool {
	const others = 0o022
	return s.Socket.Mode&others != 0 && !strings.HasPrefix(l.HostFile, s.search.Expand("%t")+"/")
}
