package generator

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// findNetworks notes the .network files that an endpoint's container is in.
func (p *Plan) findNetworks(files []*quadlet.File) {
	for _, e := range p.Endpoints {
		for _, entry := range e.Spec.File.All(e.Spec.File.Kind(), "Network") {
			name, _, _ := strings.Cut(entry.Value, ":")
			if f := networkFile(files, name); f != nil {
				e.networks = append(e.networks, network{f, boundTo(f, files)})
			}
		}
		for _, j := range e.standIn.networks {
			if j.file != nil {
				e.networks = append(e.networks, network{j.file, boundTo(j.file, files)})
			}
		}
	}
}

// network is a .network file with a unit of its own.
type network struct {
	*quadlet.File
	bound bool // another unit stops with it
}

func boundTo(f *quadlet.File, files []*quadlet.File) bool {
	for _, other := range files {
		for _, entry := range other.All("Unit", "BindsTo") {
			if words := entry.Words(); slices.Contains(words, f.Unit()+".service") || slices.Contains(words, f.Name()) {
				return true
			}
		}
	}
	return false
}

// saysItself reports whether the file says how long the unit is active.
func (n network) saysItself() bool {
	return declared(n.File, "Unit", "StopWhenUnneeded") || declared(n.File, "Service", "RemainAfterExit", "ExecCondition")
}

// hasToStop reports whether the unit is not over with its start.
func (n network) hasToStop() bool {
	return n.bound || declared(n.File, "Network", "NetworkDeleteOnStop") || declared(n.File, "Service", "ExecStop", "ExecStopPost")
}

// networkUnits are drop-ins for the units of the networks: "podman network prune"
// removes the network of a container that sleeps, and Quadlet's unit, which made
// it once, is active for ever.
func (p *Plan) networkUnits() []Unit {
	var units []Unit
	seen := make(map[*quadlet.File]bool)
	for _, e := range p.Endpoints {
		for _, n := range e.networks {
			if e.Refused() || e.Service == nil || seen[n.File] || !scale.ValidUnit(n.Unit()) {
				continue
			}
			seen[n.File] = true
			if s := n.again(p.Manager); len(s) > 0 {
				units = append(units, Unit{Name: filepath.Join(n.Unit()+".service.d", "50-zerolet.conf"), Source: n.Path, Sections: s})
			}
		}
	}
	return units
}

// networksDir is where Podman keeps its networks (podman-network(1), "netavark").
func networksDir(m quadlet.Manager) string {
	if m == quadlet.User {
		return "%h/.local/share/containers/storage/networks/"
	}
	return "/etc/containers/networks/"
}

// again is what has the unit make the network anew once it is gone. Where Podman
// keeps its file the look costs nothing; elsewhere
// podman itself looks at each start, which is what its option --ignore is for. A
// unit that is not over with its start, since others stop with it or it has
// something to do when it stops, stops with the last container. What the file says
// itself remains.
func (n network) again(m quadlet.Manager) []*unit.UnitSection {
	name := podmanNetwork(n.File) // in the same unit specifiers mean the same
	switch {
	case n.saysItself():
		return nil
	case n.hasToStop():
		return []*unit.UnitSection{section("Unit", append(n.noLimit(), "StopWhenUnneeded", "yes")...)}
	}
	again := []*unit.UnitSection{section("Service", "RemainAfterExit", "no", "ExecCondition", ":test ! -e "+word(networksDir(m)+name+".json"))}
	if limit := n.noLimit(); limit != nil {
		again = append(again, section("Unit", limit...))
	}
	return again
}

// noLimit lets the unit start with every wake of every container in the network: the
// sixth in 10 s would fail, by systemd's limit.
func (n network) noLimit() []string {
	if declared(n.File, "Unit", "StartLimitIntervalSec", "StartLimitInterval", "StartLimitBurst") {
		return nil
	}
	return []string{"StartLimitIntervalSec", "0"}
}
