package proxy

const (
	// maxHeld bounds the clients that wait for the app. One takes 8 kB, until it
	// is carried, so that all together have no more than 66 MB (docs/internals/security.md).
	maxHeld = 8192
	// fewestHeld may wait for each target, however many there are.
	fewestHeld = 4
)

// limitHeld gives each target its part: who waits for one where nobody listens
// takes nothing from the others.
func (s *server) limitHeld() {
	for _, t := range s.targets {
		t.held = make(slots, max(fewestHeld, maxHeld/len(s.targets)))
	}
}

// slots bound connections: there is an element for each that is open. Clients that
// find none wait in the kernel's backlog.
type slots chan struct{}

func (r slots) enter() bool {
	select {
	case r <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r slots) leave() { <-r }

// await returns when somebody has left, or false when stop is closed.
func (r slots) await(stop <-chan struct{}) bool {
	select {
	case r <- struct{}{}:
		r.leave()
		return true
	case <-stop:
		return false
	}
}

// noSlot says that no connection may be accepted now, and in what there must be
// room first.
type noSlot struct{ in slots }

func (noSlot) Error() string { return "no room" }

func enterBoth(a, b slots) error {
	if !a.enter() {
		return noSlot{a}
	}
	if !b.enter() {
		a.leave()
		return noSlot{b}
	}
	return nil
}
