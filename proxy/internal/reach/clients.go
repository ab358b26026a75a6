package reach

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// clients are those of UDP in one container. Each has a route there as long as
// it has a session, and each session has two ends of its own: connect(2) does
// not refuse two sockets the same ones, and one of them would get all answers.
type clients struct {
	routes map[netip.Addr]*clientRoute
	taken  map[ends]bool
}

// ends are those of a session: where the app listens, and whom it sees.
type ends struct{ app, client netip.AddrPort }

// needsRoute reports whether the app would not find back by itself, as it does
// from one of the container's own addresses to the same.
func (e ends) needsRoute() bool { return e.app.Addr().IsLoopback() }

type clientRoute struct {
	sessions int
	found    bool // it was there before: another may need it
}

func newClients() clients {
	return clients{routes: make(map[netip.Addr]*clientRoute), taken: make(map[ends]bool)}
}

// admitClient has the answers to a client come back.
func (h *helper) admitClient(e ends) error {
	if h.clients.taken[e] {
		return unix.EADDRINUSE
	}
	if err := h.addRoute(e); err != nil {
		return err
	}
	if e.client.Port() != 0 { // else the kernel finds one that is free
		h.clients.taken[e] = true
	}
	return nil
}

// addRoute counts a session in.
func (h *helper) addRoute(e ends) error {
	if !e.needsRoute() {
		return nil
	}
	client := e.client.Addr()
	r := h.clients.routes[client]
	if r == nil {
		err := h.change(askRoute, client)
		found := errors.Is(err, unix.EEXIST)
		if errors.Is(err, errHelper) {
			return err
		}
		if err != nil && !found {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
		r = &clientRoute{found: found}
		h.clients.routes[client] = r
	}
	r.sessions++
	return nil
}

// dismissClient is the end of it.
func (h *helper) dismissClient(e ends) error {
	delete(h.clients.taken, e)
	if !e.needsRoute() {
		return nil
	}
	client := e.client.Addr()
	r := h.clients.routes[client]
	if r.sessions--; r.sessions > 0 {
		return nil
	}
	delete(h.clients.routes, client)
	if r.found {
		return nil
	}
	return h.change(askUnroute, client)
}
