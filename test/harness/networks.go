package harness

import (
	"fmt"
	"strings"
)

// Network is a way in which a container is joined to the world.
type Network struct {
	// Name is for people, without spaces.
	Name string
	// Lines are those of the .container file.
	Lines []string
}

// Networks are the kinds that a manager has, with what they need put in place. Those of both managers stand
// side by side on one machine with [lab.Options.Outside].
func (h *Host) Networks() []Network {
	h.Helper()
	n := h.Port % 10 // Podman refuses a subnet that the other manager's bridge has
	name := func(kind string) string { return fmt.Sprintf("%s-%s.network", h.Name, kind) }
	network := func(kind string, lines ...string) {
		h.PutFile(name(kind), "[Network]\n"+strings.Join(lines, "\n")+"\n")
	}
	network("named", fmt.Sprintf("Subnet=10.90.%d.0/24", n))
	network("dual", "IPv6=true", fmt.Sprintf("Subnet=10.91.%d.0/24", n), fmt.Sprintf("Subnet=fd91:%d::/64", n))
	network("six", fmt.Sprintf("Subnet=fd92:%d::/64", n))
	network("internal", "Internal=true", "IPv6=true", fmt.Sprintf("Subnet=10.93.%d.0/24", n), fmt.Sprintf("Subnet=fd93:%d::/64", n))
	kinds := []Network{
		{"bridge", []string{"Network=bridge"}},
		{"named", []string{"Network=" + name("named")}},
		{"dual", []string{"Network=" + name("dual")}},
		{"six", []string{"Network=" + name("six")}},
		{"internal", []string{"Network=" + name("internal")}},
		{"none", []string{"Network=none"}},
	}
	if h.UserManager {
		return append(kinds, Network{"pasta", []string{"Network=pasta"}})
	}
	network("macvlan", "Driver=macvlan", "Options=parent=uplink", "Subnet=192.0.2.0/24", "IPRange=192.0.2.64/26")
	return append(kinds, Network{"macvlan", []string{"Network=" + name("macvlan")}})
}
