package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// ErrNoContainer says that the pidfile does not lead to a live container now.
var ErrNoContainer = errors.New("no container")

// containerNamespace makes sockets in a container's network namespace, by a
// helper that is inside.
type containerNamespace struct {
	*namespace
	hurry bool // what would have to wait fails with errSlow
	// within, if not nil, is the helper of a visit, once it has asked for something.
	within **helper
}

type namespace struct {
	way  entrance
	hide bool    // clients' addresses
	udp  []ports // on which the app listens
	note func(string)

	mu       sync.Mutex
	helper   *helper
	notUntil time.Time // of the next try to get in
	startErr error
	noted    map[string]bool // why clients were hidden
}

// entrance is a way into the network namespace of a container.
type entrance interface {
	// enter returns a helper inside the container that runs now. The error is
	// ErrNoContainer if there is none, and wraps errHelper if the next try has
	// to wait a little, because it costs a process.
	enter() (*helper, error)
	// close gives up what enter keeps for the next try.
	close()
}

func newContainerNamespace(way entrance, cfg wire.Config, note func(string)) containerNamespace {
	n := &namespace{
		way: way, hide: cfg.HideClient || cfg.ProxyProtocol != 0, note: note, noted: make(map[string]bool),
	}
	var udp []uint16
	for _, f := range cfg.Forwards {
		if f.Target.Network == wire.UDP {
			udp = append(udp, f.Target.IP.Port())
		}
	}
	n.udp = rows(udp)
	return containerNamespace{namespace: n}
}

// visit is the same source as long as one container runs: what has begun in one
// does not go on in the next.
func (n containerNamespace) visit() containerNamespace {
	n.within = new(*helper)
	return n
}

func (n containerNamespace) patience() time.Duration { return dialPatience(n.hurry) }

func (n containerNamespace) Socket(family, kind int) (fd int, err error) {
	err = n.ask(func(h *helper) (err error) {
		fd, err = h.socket(socketKind{byte(family), byte(kind)})
		return err
	})
	return fd, err
}

// ask has the helper do something, and starts one for it if need be.
func (n containerNamespace) ask(f func(*helper) error) error {
	if !n.lock() {
		return errSlow
	}
	defer n.mu.Unlock()
	if n.within != nil && *n.within != nil && *n.within != n.helper {
		return ErrNoContainer // as it was
	}
	if n.helper == nil {
		if n.hurry {
			return errSlow
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	if n.within != nil {
		*n.within = n.helper
	}
	n.helper.hurry = n.hurry
	err := f(n.helper)
	n.helper.hurry = false
	if errors.Is(err, errHelper) {
		err = n.broken(err)
	}
	return err
}

// lock fails rather than wait, in a hurry.
func (n containerNamespace) lock() bool {
	if n.hurry {
		return n.mu.TryLock()
	}
	n.mu.Lock()
	return true
}

func (n containerNamespace) admit() (a *admission, err error) {
	err = n.ask(func(h *helper) (err error) {
		a, err = h.admit(n.udp)
		return err
	})
	return a, err
}

func (n containerNamespace) own() []netip.Addr {
	a, err := n.admit()
	if err != nil {
		return nil // the next dial says so
	}
	return a.own
}

// Sources leaves who is dialled at an address of the container's own to come
// from the same one, as everybody does inside.
func (n containerNamespace) Sources(to wire.Address, client netip.AddrPort) ([]netip.AddrPort, error) {
	if n.hide {
		client = netip.AddrPort{}
	}
	switch ip := to.IP.Addr(); {
	case ip.IsLoopback():
	case to.Network == wire.UDP && ip == client.Addr():
		return []netip.AddrPort{client, {}}, nil
	default:
		return anySource, nil
	}
	a, err := n.admit()
	if err != nil {
		return nil, err
	}
	return a.sources(to, client)
}

// claim is for UDP, where no connection keeps the two ends.
func (n containerNamespace) claim(to wire.Address, from netip.AddrPort) (release func(), err error) {
	if to.Network != wire.UDP || !from.IsValid() {
		return nil, nil
	}
	e := ends{to.IP, from}
	err = n.ask(func(h *helper) error {
		release = func() { n.release(h, e) }
		return h.admitClient(e)
	})
	return release, err
}

// release has nothing to do for a helper that is gone: so is the container.
func (n *namespace) release(h *helper, e ends) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h != n.helper {
		return
	}
	if err := h.dismissClient(e); errors.Is(err, errHelper) {
		_ = n.broken(err) // the next dial says so
	}
}

// Seen says once for each reason that the app does not see who a client is.
func (n containerNamespace) Seen(to wire.Address, client, as netip.AddrPort, failed error) {
	if n.hide || client.Addr() == as.Addr() || !client.IsValid() || client.Addr().IsLoopback() {
		return
	}
	if !as.IsValid() {
		as = to.IP
	}
	a, err := n.admit()
	if err != nil {
		return
	}
	why := a.hides(to, client.Addr(), failed).Error()
	if !n.lock() {
		return // another time
	}
	known := n.noted[why]
	n.noted[why] = true
	n.mu.Unlock()
	if !known {
		n.note(fmt.Sprintf("the app sees %s and not %s as its client: %s", as.Addr(), client.Addr(), why))
	}
}

// Verify looks at both ends. A client must not be on loopback, whatever the
// kernel made of its address: it takes that of a broadcast for none
// (__inet_bind() in net/ipv4/af_inet.c). And an address that a container had
// and the next one has not may be a neighbour's by now; who talks to an address
// of its own does so from the same.
func (n containerNamespace) Verify(fd int, to wire.Address) error {
	from, err := sock.LocalAddress(fd)
	switch {
	case err != nil:
		return err
	case from.IsUnspecified():
		return nil // reset already
	case to.IP.Addr().IsLoopback() && from.IsLoopback():
		return errLocal
	case !to.IP.Addr().IsLoopback() && from != to.IP.Addr():
		return ErrNoContainer
	}
	return nil
}

// Refused gives the helper up if its container has died: its namespace lives
// on as long as the helper does, and refuses every connection. If not, the
// container may not have had its network yet. In a hurry that is left to who
// tries again.
func (n containerNamespace) Refused() {
	if n.hurry {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.helper == nil:
	case n.helper.container.isAlive():
		n.helper.admission = nil
	default:
		n.drop()
	}
}

func (n *namespace) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper != nil {
		n.drop()
	}
	n.way.close()
}

// start gets a helper into the container that runs now.
func (n *namespace) start() (err error) {
	if time.Now().Before(n.notUntil) {
		return n.startErr
	}
	n.helper, err = n.way.enter()
	if errors.Is(err, errHelper) {
		n.pause(err)
	}
	return err
}

func (n *namespace) pause(why error) {
	n.startErr, n.notUntil = why, time.Now().Add(helperPause)
}

// drop ends the helper and returns the last thing it said.
func (n *namespace) drop() (said string) {
	said = n.helper.close()
	n.helper = nil
	return said
}

// broken drops the helper that failed with err and says why: no container
// perhaps, or what the helper had to say.
func (n *namespace) broken(err error) error {
	alive := n.helper.container.isAlive()
	said := n.drop()
	if !alive {
		return ErrNoContainer
	}
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	n.pause(err)
	return err
}
