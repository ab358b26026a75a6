package generator

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// findParts finds the units with which a container is stopped
// (systemd.unit(5), PartOf=). Its socket is, too: else the next client would
// bring the container back. The names are those of Quadlet's unit, where it has
// put services in the place of files. A service that sleeps is none: clients
// would be refused for as long as it does.
func (p *Plan) findParts() {
	sleep := make(map[string]bool)
	for _, e := range p.Endpoints {
		for _, service := range e.services() {
			sleep[service] = true
		}
	}
	for _, e := range p.Endpoints {
		if e.Refused() || e.Spec.Dependency() {
			continue
		}
		services := []*quadlet.File{e.Service}
		for _, m := range e.Members {
			services = append(services, m.Service)
		}
		for _, unit := range partOf(services) {
			if scale.ValidUnit(unit) && !sleep[unit] && !slices.Contains(e.PartOf, unit) {
				e.PartOf = append(e.PartOf, unit)
			}
		}
	}
}

func partOf(services []*quadlet.File) []string {
	var units []string
	for _, service := range services {
		for _, key := range []string{"PartOf", "StopPropagatedFrom"} {
			for _, entry := range service.All("Unit", key) {
				units = append(units, entry.Words()...)
			}
		}
	}
	return units
}
