package generator

import (
	"maps"
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
		group = slices.DeleteFunc(slices.Clone(group), (*Endpoint).Refused)
		for _, e := range group {
			e.rivals = slices.DeleteFunc(slices.Clone(group), func(other *Endpoint) bool { return other == e })
			e.checkRivals(groups)
		}
	}
}

// checkRivals warns of one that is alone in its group, and of one for which nobody
// waits as long as it stays awake.
func (e *Endpoint) checkRivals(groups map[string][]*Endpoint) {
	if len(groups[e.Spec.Exclusive]) == 1 {
		hint := "give those that exclude each other the same name there"
		for _, name := range slices.Sorted(maps.Keys(groups)) {
			if name != e.Spec.Exclusive && strings.EqualFold(name, e.Spec.Exclusive) {
				hint = "did you mean Exclusive=" + name + "?"
			}
		}
		e.Diagnostics.Warnf(e.Spec.ExclusivePos, hint, "Exclusive=%s has no effect: no other service has that name", e.Spec.Exclusive)
	}
	for _, rival := range e.rivals {
		if rival.Spec.StartTimeout <= e.Spec.StayAwake {
			e.Diagnostics.Warnf(e.Spec.ExclusivePos, "write a shorter StayAwake=, or there a longer StartTimeout=",
				"clients of %s wait for %s, and %s stays awake for %s: they fail",
				rival.name(wire.Container), rival.Spec.StartTimeout, e.name(wire.Container), e.Spec.StayAwake)
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
