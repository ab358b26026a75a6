package generator

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Before its start a container waits while many others start (zerolet place). That is
// one process more before Podman, of some 15 ms (docs/internals/cold-start.md). Where
// there are no more containers than places nobody would ever wait, and there is none.
// Processors that come or go are counted at the next daemon-reload.

// StartsVariable is how an administrator says how many start at a time. A generator
// has the manager's own environment: what DefaultEnvironment= (systemd-system.conf(5))
// and environment.d(5) say, and not "systemctl set-environment"
// (build_generator_environment in systemd's manager.c).
const StartsVariable = "ZEROLET_STARTS"

// Unbounded is how many start at a time where that has no bound.
const Unbounded = math.MaxInt

// Places is how many containers of a manager start at a time.
func Places(getenv func(string) string, processors int) (int, error) {
	const perProcessor = 4 // a start waits for much else: with two a busy machine lets them have too little
	switch v := getenv(StartsVariable); v {
	case "":
		return perProcessor * processors, nil
	case "infinity":
		return Unbounded, nil
	default:
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return 0, fmt.Errorf("%q is no number of starts", v)
		}
		return n, nil
	}
}

// countPlaces notes how many containers start at a time. If nobody can tell, each start
// says so.
func (p *Plan) countPlaces(getenv func(string) string, processors int) {
	n, err := Places(getenv, processors)
	if err != nil {
		p.Diagnostics.Warnf(quadlet.Pos{File: StartsVariable}, "write it as 8 or infinity", "%v", err)
	}
	p.places = n
}

// findCrowd notes whether more containers may start at once than there are places.
func (p *Plan) findCrowd() {
	start := slices.DeleteFunc(slices.Clone(p.Endpoints), func(e *Endpoint) bool { return e.Refused() || e.admin != none })
	for _, e := range start {
		e.crowded = len(start) > p.places
	}
}

// takePlace has the container's unit wait before its start while many others start.
// What it needs has started by then, and what waits for its turn (Exclusive=) waits
// before: neither has a place that another one needs. Of a pod the pod itself has the
// place. If that fails, the container starts all the same.
func (e *Endpoint) takePlace(l Layout, u *Unit) {
	words := []string{"-:" + word(literal(l.Zerolet)), "place", scope(e.manager), "--", word(literal(e.Spec.Unit))}
	u.place = strings.Join(words, " ")
	if e.crowded {
		setFirst(u, "ExecStartPre", u.place)
	}
}
