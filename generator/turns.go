package generator

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zerolet/zerolet/proxy/wire"
)

// In one group nobody waits in a circle (exclusive.go). With what services need they
// may: a needs b, and keeps it up while it waits for its own turn. If c does so with d,
// and a excludes d and b excludes c, then neither a nor c ever starts. Nor do two of one
// group that somebody needs together.

// turns are who may wait for whom.
type turns struct {
	groups map[string][]*Endpoint    // by their Exclusive=
	kept   map[*Endpoint][]*Endpoint // those that have to start before one can end
}

// checkTurns refuses what might wait in a circle. It begins with the last, so that a
// file never takes down those that work without it.
func (p *Plan) checkTurns(groups map[string][]*Endpoint, starts map[string][]string) {
	t := turns{groups, kept(groups, starts)}
	for _, e := range slices.Backward(p.Endpoints) {
		if e.Spec.Exclusive == "" || e.Refused() {
			continue
		}
		if circle := t.circle(e); circle != "" {
			e.Diagnostics.Errorf(e.Spec.ExclusivePos, "let one of them have no Exclusive=", "nobody would have a turn: %s", circle)
		}
	}
}

// kept finds those that some service needs together: while one of them waits for its
// turn, the service keeps up the other, unless that comes later itself.
func kept(groups map[string][]*Endpoint, starts map[string][]string) map[*Endpoint][]*Endpoint {
	var all []*Endpoint
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		all = append(all, groups[name]...)
	}
	kept := make(map[*Endpoint][]*Endpoint)
	for _, service := range slices.Sorted(maps.Keys(starts)) {
		together := slices.DeleteFunc(slices.Clone(all), func(e *Endpoint) bool {
			name := e.name(wire.Container)
			return name != service && !reaches(starts, service, name)
		})
		for _, e := range together {
			for _, other := range together {
				if e != other && !reaches(starts, e.name(wire.Container), other.name(wire.Container)) {
					kept[e] = append(kept[e], other)
				}
			}
		}
	}
	return kept
}

// circle tells of one in which an endpoint waits, "" if there is none.
func (t turns) circle(e *Endpoint) string {
	seen := make(map[*Endpoint]bool)
	var search func(at *Endpoint) string
	search = func(at *Endpoint) string {
		seen[at] = true
		for _, rival := range t.groups[at.Spec.Exclusive] {
			if rival == at || rival.Refused() {
				continue
			}
			for _, next := range t.kept[rival] {
				step := fmt.Sprintf("%s waits for %s to end, which is up for %s",
					at.name(wire.Container), rival.name(wire.Container), next.name(wire.Container))
				if next == e {
					return step
				}
				if seen[next] || next.Refused() {
					continue
				}
				if rest := search(next); rest != "" {
					return step + "; " + rest
				}
			}
		}
		return ""
	}
	return search(e)
}
