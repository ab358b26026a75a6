package generator

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// A container may end by itself while those that need it go on: one that brings a
// database up to date does. Upholds= would start it again at once, and again. So only
// what has failed is: who has ended well has done what he was there for.

// Ends reports whether the file is a job (systemd.service(5), Type=).
func Ends(f *quadlet.File) bool {
	kind, _ := f.Last("Service", "Type")
	remains, _ := f.Last("Service", "RemainAfterExit")
	yes, _ := scale.ParseBool(remains.Value)
	return kind.Value == "oneshot" && !yes
}

// mayEnd reports whether a file leaves it to its container to end well, as stock
// Quadlet does that writes no Restart= (systemd.service(5)).
func mayEnd(f *quadlet.File) bool {
	restart, _ := f.Last("Service", "Restart")
	return !slices.Contains([]string{"always", "on-success"}, restart.Value) && !Ends(f) && !declared(f, "Service", "RemainAfterExit")
}

// staysEnded has the unit of a container that ends well stay active, with no process,
// until nobody needs it.
func staysEnded(u *Unit, f *quadlet.File) {
	if mayEnd(f) {
		set(u, "Service", "RemainAfterExit", "yes")
	}
}

// endsAlone reports whether others go on when the endpoint's container has ended. Clients
// of its own do not. Of two in one network neither is alone: Podman may have ended one
// for the other (leavesNothing).
func (e *Endpoint) endsAlone() bool {
	return e.Spec.Dependency() && e.Spec.File.Kind() == "Container" && !e.joined && e.owner == nil
}
