// Package reach makes connections to the app in the container, from a client's own
// address where that can be, and to nobody else: through the entry or the helper,
// by a path or in the host's network, it looks who is there. It does not know
// what is sent, and holds no client.
package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// dialAttempt bounds one connect. Both ends are on this machine, so an answer
// comes at once unless the app's backlog is full and the kernel dropped the
// SYN; asking again soon beats the kernel's first retransmission after 1 s.
const dialAttempt = 250 * time.Millisecond

// errSlow says to who is in a hurry that this would take a while.
var errSlow = errors.New("it would take a while")

// ErrNotReady says that the app accepts but is not ready.
var ErrNotReady = errors.New("the app is not ready")

// Source makes unconnected, non-blocking sockets.
type Source interface {
	// Socket returns a descriptor of an address family and a kind, AF_INET and
	// SOCK_STREAM for instance.
	Socket(family, kind int) (int, error)
	// own are the container's addresses but for loopback, where only the
	// container can be reached.
	own() []netip.Addr
	// Sources are the addresses from which to connect for a client, in the order
	// to try them. Without an address the kernel chooses. The proxy's own
	// connections have no client.
	Sources(to wire.Address, client netip.AddrPort) ([]netip.AddrPort, error)
	// claim is called before a connection is made from a source, and what it
	// returns, if not nil, when the socket has been closed.
	claim(to wire.Address, from netip.AddrPort) (release func(), err error)
	// Seen is told as whom the app sees a client that it has taken, and why a
	// better source failed.
	Seen(to wire.Address, client, as netip.AddrPort, failed error)
	// Verify looks whether a socket that was connected to an address reaches the
	// container.
	Verify(fd int, to wire.Address) error
	// patience bounds one connect that does not succeed at once.
	patience() time.Duration
	// Refused is told that a dial failed, and may look for a newer container.
	Refused()
	// Close ends what the source runs, and waits for it.
	Close()
}

// New is the way to the container. note is told what is not as one may
// expect it.
func New(cfg wire.Config, cgroup *Cgroup, note func(string)) Source {
	switch {
	case cfg.PIDFile != "", cfg.Infra:
		return newContainerNamespace(&nsenter{whereaboutsOf(cfg)}, cfg, note)
	case cfg.Entry != "":
		return newContainerNamespace(&entry{path: cfg.Entry}, cfg, note)
	case cfg.HostNetwork:
		return newHostNetwork(cgroup)
	}
	return ownNamespace{}
}

// ownNamespace makes sockets where the proxy itself is.
type ownNamespace struct{ hurry bool }

func (ownNamespace) Socket(family, kind int) (int, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func (ownNamespace) own() []netip.Addr              { return nil }
func (ownNamespace) Verify(int, wire.Address) error { return nil }
func (ownNamespace) Refused()                       {}
func (ownNamespace) Close()                         {}

func (n ownNamespace) patience() time.Duration { return dialPatience(n.hurry) }

func (ownNamespace) claim(wire.Address, netip.AddrPort) (func(), error)       { return nil, nil }
func (ownNamespace) Seen(wire.Address, netip.AddrPort, netip.AddrPort, error) {}

// anySource leaves it to the kernel.
var anySource = []netip.AddrPort{{}} // a constant

// Targets are the addresses to try, in order. Inside a container nobody
// says on which loopback address the app listens.
func Targets(target wire.Address, inside bool) []wire.Address {
	addrs := []wire.Address{target}
	if inside && target.IP.Addr() == netip.AddrFrom4([4]byte{127, 0, 0, 1}) {
		target.IP = netip.AddrPortFrom(netip.IPv6Loopback(), target.IP.Port())
		addrs = append(addrs, target)
	}
	return addrs
}

// Prompt is a source for who cannot wait at all: where the other one would be
// waiting, it fails with errSlow. There is none, nil, where it takes a while to
// follow a path or to look who answers. It is no method: what embeds a source
// must not have its prompt one, which looks at nothing.
func Prompt(source Source) Source {
	switch n := source.(type) {
	case containerNamespace:
		n.hurry = true
		return n
	case ownNamespace:
		return ownNamespace{hurry: true}
	}
	return nil
}

// dialPatience is that of most sources.
func dialPatience(hurry bool) time.Duration {
	if hurry {
		return 0
	}
	return dialAttempt
}

// Dial tries each way once, for a client.
func Dial(source Source, addrs []wire.Address, client netip.AddrPort) (*sock.Socket, error) {
	var c connected
	var refused []wire.Address
	err := TryEach(source, addrs, client, func(source Source, addr wire.Address) (err error) {
		if c, err = dialOne(source, addr, client); err != nil {
			refused = append(refused, addr)
			return err
		}
		if len(refused) > 0 {
			c = c.orFirst(source, refused[0], client)
		}
		return nil
	})
	if err != nil {
		source.Refused()
		return nil, err
	}
	source.Seen(c.to, client, c.from, c.failed)
	return c.Socket, nil
}

// orFirst is a connection by the first way, if the app has begun to listen since
// that was refused, and takes it there as well.
func (c connected) orFirst(source Source, first wire.Address, client netip.AddrPort) connected {
	better, err := dialOne(source, first, client)
	if err != nil {
		return c
	}
	c.Close()
	return better
}

// TryEach tries each way once, in one container. The error is the first one: the
// others may be of a family that is not there. But where a way was not refused no
// other one is right: that would make the client somebody else.
func TryEach(source Source, addrs []wire.Address, client netip.AddrPort, try func(Source, wire.Address) error) (first error) {
	if n, ok := source.(containerNamespace); ok {
		source = n.visit()
	}
	for addr := range ways(source, addrs, client) {
		err := try(source, addr)
		if err == nil || errors.Is(err, errSlow) { // this may be the way
			return err
		}
		open := mayBeOpen(err)
		if first == nil || open {
			first = err
		}
		if open {
			break
		}
	}
	return first
}

// mayBeOpen reports whether a way that failed says nothing of the next time:
// somebody listens and does not answer now, the backlog being full or the answers
// led elsewhere; or the helper was lost, or its container.
func mayBeOpen(err error) bool {
	return errors.Is(err, unix.ETIMEDOUT) || errors.Is(err, errHelper) || errors.Is(err, ErrNoContainer)
}

// ways are the addresses, those of IPv6 first for its clients, and then the
// container's own: an app may listen on one of those alone. They are asked for
// only when the others have failed. For datagrams that of the client goes first,
// if it is one of these, as it is with pasta(1) for who is on the host: an app
// that listens everywhere answers it from there.
func ways(source Source, addrs []wire.Address, client netip.AddrPort) iter.Seq[wire.Address] {
	own := addrs[0]
	return func(yield func(wire.Address) bool) {
		if IsOwn(source, own.Network, client.Addr()) {
			own.IP = netip.AddrPortFrom(client.Addr(), own.IP.Port())
			if !yield(own) {
				return
			}
		}
		for i := range addrs {
			if client.Addr().Is6() {
				i = len(addrs) - 1 - i
			}
			if !yield(addrs[i]) {
				return
			}
		}
		for _, ip := range source.own() {
			own.IP = netip.AddrPortFrom(ip, own.IP.Port())
			if !yield(own) {
				return
			}
		}
	}
}

// IsOwn reports whether a client of datagrams has one of the container's own
// addresses.
func IsOwn(source Source, network wire.Network, client netip.Addr) bool {
	return network == wire.UDP && client.IsValid() && slices.Contains(source.own(), client)
}

// DialOne connects by one way.
func DialOne(source Source, addr wire.Address, client netip.AddrPort) (*sock.Socket, error) {
	c, err := dialOne(source, addr, client)
	return c.Socket, err
}

// connected is a connection to an address, and as whom the app sees the client:
// failed is why from is no better one.
type connected struct {
	*sock.Socket
	to     wire.Address
	from   netip.AddrPort
	failed error
}

// dialOne connects from the first source from which that can be done.
func dialOne(source Source, addr wire.Address, client netip.AddrPort) (c connected, err error) {
	c.to = addr
	if files, ok := source.(*Files); ok {
		c.Socket, err = files.dial(addr)
		return c, err
	}
	sources, err := source.Sources(addr, client)
	if err != nil {
		return c, fmt.Errorf("connect %s: %w", addr, err)
	}
	for _, c.from = range sources {
		if c.Socket, err = dialFrom(source, addr, c.from); err == nil {
			return c, nil
		}
		c.failed = err
		if !isTaken(err) {
			break
		}
	}
	return c, err
}

// isTaken reports whether another source may do: the port is somebody else's or
// needs a capability, or the kernel would take another address.
func isTaken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EACCES) || errors.Is(err, errLocal)
}

func dialFrom(source Source, addr wire.Address, from netip.AddrPort) (*sock.Socket, error) {
	_, _, sa := sock.Arguments(addr)
	return connectAs(source, addr, sa, from)
}

// connectAs is dialFrom where sa is what the address is called.
func connectAs(source Source, addr wire.Address, sa unix.Sockaddr, from netip.AddrPort) (*sock.Socket, error) {
	family, kind, _ := sock.Arguments(addr)
	fd, err := source.Socket(family, kind)
	if err != nil {
		return nil, err
	}
	if addr.Network == wire.TCP {
		// The other end is on this machine: it cannot vanish without a word.
		err = sock.SetOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil && from.IsValid() {
		err = bind(fd, wire.Address{Network: addr.Network, IP: from})
	}
	var release func()
	if err == nil {
		release, err = source.claim(addr, from)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect %s: %w", addr, err)
	}
	err = unix.Connect(fd, sa)
	s := sock.New(fd)
	s.Release = release
	if errors.Is(err, unix.EINPROGRESS) {
		err = finishConnect(s, sa, source.patience())
	}
	if errors.Is(err, unix.ECONNRESET) {
		// It was accepted, and reset before connect had returned, which thus
		// took the error away from who reads and left the socket unconnected
		// (__inet_stream_connect() in net/ipv4/af_inet.c).
		s.Failed(err)
		err = nil
	}
	if err == nil {
		err = source.Verify(s.FD, addr)
	}
	if err != nil {
		s.Reset() // whoever was reached learns that it is over
		return nil, fmt.Errorf("connect %s: %w", addr, hinted(addr, err))
	}
	return s, nil
}

// bind gives a socket its own address. A port is found when it is known where it
// leads: others may have it, too (ip(7), IP_BIND_ADDRESS_NO_PORT).
func bind(fd int, from wire.Address) error {
	if from.Network == wire.TCP && from.IP.Port() == 0 {
		if err := sock.SetOption(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
	}
	_, _, local := sock.Arguments(from)
	return os.NewSyscallError("bind", unix.Bind(fd, local))
}

// hinted says what to do about an error that only the app's own settings mend
// (unix(7), "Pathname socket ownership and permissions").
func hinted(addr wire.Address, err error) error {
	if addr.Network == wire.Unix && errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w (the proxy has to be allowed to write to the socket and to search its directory)", err)
	}
	return err
}

// finishConnect waits for a connect under way. Asking again tells how it went:
// EALREADY while it goes on, then 0 or EISCONN, or why it failed (connect(2)).
func finishConnect(s *sock.Socket, sa unix.Sockaddr, patience time.Duration) error {
	var err error
	asked := func(fd uintptr) bool {
		err = unix.Connect(int(fd), sa)
		if err == unix.EISCONN {
			err = nil
		}
		return err != unix.EALREADY && err != unix.EINPROGRESS && err != unix.EINTR
	}
	// On loopback the handshake is over when connect has let go of the socket, of
	// which it says nothing yet: it holds up what comes in (tcp_v4_rcv() in
	// net/ipv4/tcp_ipv4.c). Then there is no need for the poller.
	if asked(uintptr(s.FD)) {
		return err
	}
	if patience == 0 {
		return errSlow
	}
	file, raw := s.Poller()
	file.SetWriteDeadline(time.Now().Add(patience))
	defer file.SetWriteDeadline(time.Time{})
	switch e := raw.Write(asked); {
	case errors.Is(e, os.ErrDeadlineExceeded):
		return unix.ETIMEDOUT
	case e != nil:
		return e
	default:
		return err
	}
}

// IsStarting reports whether an error is what one meets on the way to a running
// app: not listening yet, backlog full (EAGAIN for a unix socket), no container, no network in it yet.
// Anything else is tried again too, since a failed start may be mended at any
// time, but somebody should know.
func IsStarting(err error) bool {
	for _, e := range []error{
		unix.ECONNREFUSED, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENETDOWN,
		unix.EAGAIN, unix.ECONNRESET, unix.ENOTCONN, fs.ErrNotExist, ErrNoContainer, ErrNotReady, errUnproven,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
