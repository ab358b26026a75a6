package generator

import "strings"

// takePlace has the container's unit wait before its start while many others start
// (zerolet place). What it needs has started by then, and what waits for its turn
// (Exclusive=) waits before: neither has a place that another one needs. Of a pod the
// pod itself has the place. If that fails, the container starts all the same.
func (e *Endpoint) takePlace(l Layout, u *Unit) {
	words := []string{"-:" + word(literal(l.Zerolet)), "place", scope(e.manager), "--", word(literal(e.Spec.Unit))}
	setFirst(u, "ExecStartPre", strings.Join(words, " "))
}
