package scale

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Socket is how the public unix sockets are made, as systemd.socket(5) has it.
type Socket struct {
	Mode, DirectoryMode uint32
	User, Group         string // "" is the manager's own
}

// checkSockets tells what cannot be done to a public socket.
func (s *Spec) checkSockets(ds *quadlet.Diagnostics) {
	for _, l := range s.Listen {
		if s.search.Manager == quadlet.System && strings.HasPrefix(l.ContainerFile, "/root/") {
			ds.Errorf(l.Pos, "let the app make it below /run or /srv", "only root reaches a socket below /root")
		}
		if l.HostFile != "" && l.HostFile == l.ContainerFile {
			ds.Errorf(l.Pos, "give one of the two another path", "clients and the app would share the socket %s", l.HostFile)
		}
	}
}

// onUnix reports whether clients connect to a unix socket.
func (s *Spec) onUnix() bool {
	return slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.HostPath != "" })
}
