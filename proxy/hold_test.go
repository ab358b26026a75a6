package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// An app that listens late loses no client, however many there are.
func TestHeldUntilAppListens(t *testing.T) {
	for _, clients := range []int{1, 50} {
		front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
		r := serve(t, config(front, addr), front, nil)
		var conns []*net.TCPConn
		for range clients {
			c := connect(t, r.addr)
			io.WriteString(c, "ping\n")
			conns = append(conns, c)
		}
		r.waitHeld(t, int64(clients))
		var got atomic.Int64
		app(t, listenTCP(t, addr.String()), func(c *net.TCPConn) { got.Add(1); echo(c) })
		for _, c := range conns {
			expect(t, c, "ping\n")
			c.CloseWrite()
			expectEnd(t, c)
		}
		if int(got.Load()) != clients {
			t.Errorf("the app got %d connections, want %d", got.Load(), clients)
		}
		if n := strings.Count(r.log.String(), "ready for"); n != 1 {
			t.Errorf("%d wake records, want 1: %s", n, r.log)
		}
	}
}

// Held clients share one that asks: they cost the app one connect each, and
// not one for each attempt.
func TestOneAsks(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	source := &countingSource{}
	r := serve(t, config(front, addr), front, func(s *server) {
		for _, target := range s.targets {
			target.source = source
		}
	})
	const clients = 30
	for range clients {
		connect(t, r.addr)
	}
	r.waitHeld(t, clients)
	before, began := source.n.Load(), time.Now()
	eventually(t, "a second second of asking", func() bool { return time.Since(began) > time.Second })
	// After 32 ms of waiting there are at most 1,000/s, later 40/s.
	if n := source.n.Load() - before; n > 400 {
		t.Errorf("%d attempts in a second", n)
	} else if n == 0 {
		t.Error("nobody asks")
	}
}

type countingSource struct {
	ownNamespace
	n atomic.Int64
}

func (s *countingSource) socket(family, kind int) (int, error) {
	s.n.Add(1)
	return s.ownNamespace.socket(family, kind)
}

// A client that was held and has shut down its side still gets its answer.
func TestHeldHalfClosedClientIsServed(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	r := serve(t, config(front, addr), front, nil)
	c := connect(t, r.addr)
	io.WriteString(c, "request")
	c.CloseWrite()
	r.waitHeld(t, 1)
	app(t, listenTCP(t, addr.String()), echo)
	expect(t, c, "request")
	expectEnd(t, c)
}

// A client that resets while held is forgotten, the one who asks and the one
// who waits alike, even with a request in the queue.
func TestHeldClientGone(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	r := serve(t, config(front, addr), front, nil)
	for _, request := range []string{"", "request"} {
		a, b, stays := connect(t, r.addr), connect(t, r.addr), connect(t, r.addr)
		io.WriteString(a, request)
		io.WriteString(b, request)
		r.waitHeld(t, 3)
		resetConn(a)
		resetConn(b)
		eventually(t, "gone clients are forgotten", func() bool { return r.activity.open.Load() == 1 })
		resetConn(stays)
		eventually(t, "all are forgotten", func() bool { return r.activity.open.Load() == 0 })
	}
	if r.log.String() != "" {
		t.Errorf("a client that leaves is no news: %s", r.log)
	}
}

// When the start timeout is over, the client sees a failure, and the journal
// gets one record for all of them.
func TestStartTimeout(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	cfg := config(front, addr)
	cfg.StartTimeout = 500 * time.Millisecond // enough to ask the app once
	r := serve(t, cfg, front, nil)
	var conns []*net.TCPConn
	for range 10 {
		conns = append(conns, connect(t, r.addr))
	}
	for _, c := range conns {
		expectReset(t, c)
	}
	eventually(t, "all are forgotten", func() bool { return r.activity.open.Load() == 0 })
	if log := r.log.String(); lines(log) != 1 || !strings.Contains(log, "turned away") || !strings.Contains(log, "refused") {
		t.Errorf("journal:\n%s", log)
	}
}

// Who comes after the app has gone is held for the next one.
func TestAppComesBack(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	r := serve(t, config(front, addr), front, nil)
	for range 3 {
		c := connect(t, r.addr)
		eventually(t, "the client is held", func() bool { return r.activity.open.Load() == 1 })
		l := listenTCP(t, addr.String())
		a := next(t, accepted(t, l))
		io.WriteString(a, "hello")
		expect(t, c, "hello")
		l.Close()
		resetConn(a)
		expectReset(t, c)
		eventually(t, "the connection ends", func() bool { return r.activity.open.Load() == 0 })
	}
}

// An app that resets connections unheard while it starts gets each client
// again, with everything the client has said.
func TestResetUnheardIsTriedAgain(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, nil)
	apps := accepted(t, l)
	c := connect(t, r.addr)
	for range 3 {
		resetConn(next(t, apps))
	}
	a := next(t, apps)
	io.WriteString(a, "220 ready\n")
	expect(t, c, "220 ready\n")
	// From now on the app is known to work: a reset is meant.
	other := connect(t, r.addr)
	resetConn(next(t, apps))
	expectReset(t, other)
}

// So does a client that has spoken first, as with HTTP: an app that has not
// answered yet gets a moment to reset before it is sent anything.
func TestResetAtAcceptKeepsRequest(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, func(s *server) { s.resetGrace = time.Second })
	var resets atomic.Int32
	app(t, l, func(c *net.TCPConn) {
		if resets.Add(1) <= 20 {
			resetConn(c)
			return
		}
		echo(c)
	})
	ask(t, connect(t, r.addr), "request\n")
}

// That goes for each client until the app has answered one, also while it has
// accepted one.
func TestResetAtAcceptBesideASilentOne(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, func(s *server) { s.resetGrace = 2 * time.Second })
	apps := accepted(t, l)
	connect(t, r.addr)
	silent := next(t, apps)
	defer silent.Close()
	c := connect(t, r.addr)
	io.WriteString(c, "request\n")
	a := next(t, apps)
	a.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _ := a.Read(make([]byte, 1)); n > 0 {
		t.Error("the app was told at once")
	}
	resetConn(a)
	a = next(t, apps)
	io.WriteString(a, "220 ready\n")
	expect(t, a, "request\n")
	expect(t, c, "220 ready\n")
}

// What the client said stays with it until the app's kernel has taken it.
func TestResetUnheardKeepsRequest(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, nil)
	apps := accepted(t, l)
	backend := must(dialOne(ownNamespace{}, addrOf(l), netip.AddrPort{}))(t)
	resetConn(next(t, apps))
	eventually(t, "the backend is reset", func() bool { return sock.IsGone(backend.FD) })
	// A client whose request is there already.
	clients := listenTCP(t, "127.0.0.1:0")
	c := connect(t, clients.Addr().String())
	io.WriteString(c, "request")
	waitSent(t, c)
	client := sock.New(acceptFD(t, clients))
	p := newPair(client, backend, r.loops.next(), &r.activity.account, func() {})
	done := make(chan struct{})
	p.start(func() { close(done) })
	<-done
	if !p.unheard() {
		t.Fatalf("not unheard: %v", p.up.dstErr)
	}
	client.Unwake()
	p = newPair(client, must(dialOne(ownNamespace{}, addrOf(l), netip.AddrPort{}))(t), r.loops.next(), &r.activity.account, func() {})
	done = make(chan struct{})
	p.start(func() { close(done) })
	a := next(t, apps)
	expect(t, a, "request")
	io.WriteString(a, "answer")
	a.CloseWrite()
	expect(t, c, "answer")
	c.Close()
	<-done
	p.close()
	if p.unheard() || p.up.sent != 7 || p.down.sent != 6 {
		t.Errorf("%d and %d bytes", p.up.sent, p.down.sent)
	}
}

// acceptFD accepts without Go's poller.
func acceptFD(t *testing.T, l *net.TCPListener) (fd int) {
	t.Helper()
	raw := must(l.SyscallConn())(t)
	eventually(t, "there is one to accept", func() bool {
		var err error
		raw.Control(func(lfd uintptr) { fd, _, err = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) })
		return err == nil
	})
	return fd
}

// A clean end without a byte is an answer.
func TestCleanRefusalIsPassedOn(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, nil)
	var n atomic.Int64
	app(t, l, func(*net.TCPConn) { n.Add(1) })
	expectEnd(t, connect(t, r.addr))
	if n.Load() != 1 {
		t.Errorf("the app was asked %d times", n.Load())
	}
}

// An app with a full backlog answers no SYN; it is asked again before the
// kernel's own second is over.
func TestFullBacklog(t *testing.T) {
	l, full := fullBacklog(t)
	if _, err := dialOne(ownNamespace{}, addrOf(l), netip.AddrPort{}); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Fatalf("a full backlog gives %v", err)
	}
	began := time.Now()
	if _, err := dialOne(ownNamespace{}.prompt(), addrOf(l), netip.AddrPort{}); !errors.Is(err, errSlow) {
		t.Fatalf("a full backlog in a hurry gives %v", err)
	}
	if took := time.Since(began); took > dialAttempt {
		t.Errorf("it took %s", took)
	}
	front := listenTCP(t, "127.0.0.1:0")
	r := serve(t, config(front, addrOf(l)), front, nil)
	c := connect(t, r.addr)
	r.waitHeld(t, 1)
	app(t, l, echo)
	for _, c := range full {
		c.Close()
	}
	ask(t, c, "ping")
}

// fullBacklog is a listener that takes no more connections until it accepts.
func fullBacklog(t *testing.T) (l *net.TCPListener, full []net.Conn) {
	l = listenTCP(t, "127.0.0.1:0")
	raw := must(l.SyscallConn())(t)
	raw.Control(func(fd uintptr) { syscall.Listen(int(fd), 0) }) // may be called again to change it
	for {
		c, err := net.DialTimeout("tcp", l.Addr().String(), dialAttempt)
		if err != nil {
			return l, full
		}
		full = append(full, c)
	}
}

func TestPause(t *testing.T) {
	for waited, want := range map[time.Duration]time.Duration{
		0: time.Millisecond, 320 * time.Millisecond: 10 * time.Millisecond, time.Hour: 25 * time.Millisecond,
	} {
		if got := pause(waited); got != want {
			t.Errorf("after %s: %s, want %s", waited, got, want)
		}
	}
}

// stuckSource is a way to the app on which some dials hang, as behind a helper
// that does not answer.
type stuckSource struct {
	ownNamespace
	hangs atomic.Int64 // how many of the next
	end   chan struct{}
}

func (s *stuckSource) prompt() socketSource { return nil }

func (s *stuckSource) sources(wire.Address, netip.AddrPort) ([]netip.AddrPort, error) {
	if s.hangs.Add(-1) >= 0 {
		<-s.end
	}
	return anySource, nil
}

func serveStuck(t *testing.T, startTimeout time.Duration) (*running, *stuckSource) {
	t.Helper()
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.StartTimeout = startTimeout
	source := &stuckSource{end: make(chan struct{})}
	r := serve(t, cfg, front, func(s *server) {
		for _, target := range s.targets {
			target.source = source
		}
	})
	t.Cleanup(func() {
		select {
		case <-source.end:
		default:
			close(source.end)
		}
	})
	ask(t, connect(t, r.addr), "ping")
	eventually(t, "the app has answered", func() bool { return r.targets[r.cfg.Forwards[0].Listen].proven.Load() })
	return r, source
}

// Nobody waits for another's dial, once the app is there.
func TestDialsAtOnce(t *testing.T) {
	r, source := serveStuck(t, wire.Infinity)
	source.hangs.Store(1)
	slow := connect(t, r.addr)
	eventually(t, "a dial hangs", func() bool { return source.hangs.Load() <= 0 })
	ask(t, connect(t, r.addr), "ping")
	close(source.end)
	ask(t, slow, "ping")
}

// While a dial hangs the start timeout goes on, and who leaves is gone.
func TestDialThatHangs(t *testing.T) {
	r, source := serveStuck(t, 300*time.Millisecond)
	source.hangs.Store(2)
	late, gone := connect(t, r.addr), connect(t, r.addr)
	eventually(t, "both dials hang", func() bool { return source.hangs.Load() <= 0 })
	resetConn(gone)
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	eventually(t, "both are counted out", func() bool { return r.activity.open.Load() <= 1 }) // the first goes on
}

// Each client that is held has room of its own. More of them wait to be accepted,
// those of another target do not wait for these, and all are served.
func TestHeldRoom(t *testing.T) {
	front, other, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	addr := freeAddr(t)
	cfg := config(front, addr)
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: addrOf(other).ListenKey(), Target: addrOf(l)})
	r := prepareServer(t, cfg, filesOf(t, front, other))
	for _, target := range r.targets {
		target.held = make(slots, 3)
	}
	r.run(t)
	var clients []*net.TCPConn
	for range 10 {
		clients = append(clients, connect(t, r.addr))
	}
	eventually(t, "it is told", func() bool { return strings.Contains(r.log.String(), "3 clients held, no more are allowed") })
	if n := r.activity.open.Load(); n != 3 {
		t.Errorf("%d are accepted, want 3", n)
	}
	for range 5 {
		ask(t, connect(t, other.Addr().String()), "ping")
	}
	app(t, listenTCP(t, addr.String()), echo)
	for _, c := range clients {
		ask(t, c, "ping")
	}
	if n := r.activity.open.Load(); n != 15 {
		t.Errorf("%d are open, want 15: who is served is not held", n)
	}
}
