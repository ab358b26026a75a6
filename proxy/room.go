package proxy

// room bounds the open connections. It holds an element for each. Clients that
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
