package generator

import (
	"slices"

	"github.com/zerolet/zerolet/proxy/wire"
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
		sleep[e.name(wire.Container)] = true
	}
	for _, e := range p.Endpoints {
		if e.Service == nil || e.Spec.Dependency() {
			continue
		}
		for _, key := range []string{"PartOf", "StopPropagatedFrom"} {
			for _, entry := range e.Service.All("Unit", key) {
				for _, unit := range entry.Words() {
					if scale.ValidUnit(unit) && !sleep[unit] && !slices.Contains(e.PartOf, unit) {
						e.PartOf = append(e.PartOf, unit)
					}
				}
			}
		}
	}
}
