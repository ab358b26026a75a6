package generator

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// Services with the same Exclusive= are rivals: one of them is awake. Before its
// container is made, each waits until all that began to start earlier have ended
// (zerolet turn). systemd knows who that is, also after a crash, and of two
// starts one is the earlier: nobody holds a lock, and nobody in a group waits in a
// circle.

// findRivals refuses what could never have its turn: one that needs a rival waits
// for it to start, and then for it to end.
func (p *Plan) findRivals(files []*quadlet.File) {
	groups := make(map[string][]*Endpoint)
	for _, e := range p.Endpoints {
		if e.Spec.Exclusive == "" || e.Refused() || e.Spec.Unit == "" {
			continue
		}
		groups[e.Spec.Exclusive] = append(groups[e.Spec.Exclusive], e)
	}
	starts := p.starts(files)
	for _, group := range groups {
		for _, e := range group {
			for _, other := range group {
				if e != other && reaches(starts, e.name(wire.Container), other.name(wire.Container)) {
					e.Diagnostics.Errorf(e.Spec.ExclusivePos, "let one of the two have another name there, or none",
						"%s needs %s, and of Exclusive=%s one is awake at a time", e.name(wire.Container), other.name(wire.Container), e.Spec.Exclusive)
				}
			}
		}
	}
	p.checkTurns(groups, starts)
	for _, group := range groups {
		group = slices.DeleteFunc(group, (*Endpoint).Refused)
		for _, e := range group {
			e.rivals = slices.DeleteFunc(slices.Clone(group), func(other *Endpoint) bool { return other == e })
		}
	}
}

// takeTurn has the container's unit wait before anything else is done in it.
func (e *Endpoint) takeTurn(l Layout, u *Unit) {
	if len(e.rivals) == 0 {
		return
	}
	words := []string{":" + word(literal(l.Zerolet)), "turn", scope(e.manager), "--group=" + e.Spec.Exclusive, "--", word(literal(e.Spec.Unit))}
	for _, rival := range e.rivals {
		words = append(words, word(literal(rival.Spec.Unit)))
	}
	setFirst(u, "ExecCondition", strings.Join(words, " "))
}
