package proxy

const (
	// maxHeld bounds the clients that wait for the app. One takes 8 kB, until it
	// is carried, so that all together have no more than 66 MB (docs/security.md).
	maxHeld = 8192
	// fewestHeld may wait for each target, however many there are.
	fewestHeld = 4
)

// makeHeldRoom gives each target its part: who waits for one where nobody listens
// takes nothing from the others.
func (s *server) makeHeldRoom() {
	for _, t := range s.targets {
		t.held = make(room, max(fewestHeld, maxHeld/len(s.targets)))
	}
}

// room bounds connections. It holds an element for each. Clients that
// find none wait in the kernel's backlog.
type room chan struct{}

func (r room) enter() bool {
	select {
	case r <- struct{}{}:
		return true
	default:
		return false
	}
}

func (r room) leave() { <-r }

// await returns when somebody has left, or false when stop is closed.
func (r room) await(stop <-chan struct{}) bool {
	select {
	case r <- struct{}{}:
		r.leave()
		return true
	case <-stop:
		return false
	}
}

// noRoom says that no connection may be accepted now, and in what there must be
// room first.
type noRoom struct{ in room }

func (noRoom) Error() string { return "no room" }

func enterBoth(a, b room) error {
	if !a.enter() {
		return noRoom{a}
	}
	if !b.enter() {
		a.leave()
		return noRoom{b}
	}
	return nil
}
