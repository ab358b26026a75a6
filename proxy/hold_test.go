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

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/wire"
)

// An app that listens late loses no client, however many there are.
func TestHeldUntilAppListens(t *testing.T) {
	for _, clients := range []int{1, 50} {
		front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
		r := serve(t, proxytest.Config(front, addr), front, nil)
		var conns []*net.TCPConn
		for range clients {
			c := proxytest.Connect(t, r.addr)
			io.WriteString(c, "ping\n")
			conns = append(conns, c)
		}
		r.waitHeld(t, int64(clients))
		var got atomic.Int64
		proxytest.App(t, proxytest.ListenTCP(t, addr.String()), func(c *net.TCPConn) { got.Add(1); proxytest.Echo(c) })
		for _, c := range conns {
			proxytest.Expect(t, c, "ping\n")
			c.CloseWrite()
			proxytest.ExpectEnd(t, c)
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
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	source := &countingSource{Source: reach.New(wire.Config{}, nil, nil)}
	r := serve(t, proxytest.Config(front, addr), front, func(s *server) {
		for _, target := range s.targets {
			target.source = source
		}
	})
	const clients = 30
	for range clients {
		proxytest.Connect(t, r.addr)
	}
	r.waitHeld(t, clients)
	before, began := source.n.Load(), time.Now()
	proxytest.Eventually(t, "a second second of asking", func() bool {
		return time.Since(began) > time.Second && source.n.Load() > before // it may have been stopped for all of that
	})
	// After 32 ms of waiting there are at most 1,000/s, later 40/s.
	if n := source.n.Load() - before; n > 400 {
		t.Errorf("%d attempts in a second", n)
	}
}

type countingSource struct {
	reach.Source
	n atomic.Int64
}

func (s *countingSource) Socket(family, kind int) (int, error) {
	s.n.Add(1)
	return s.Source.Socket(family, kind)
}

// A client that was held and has shut down its side still gets its answer.
func TestHeldHalfClosedClientIsServed(t *testing.T) {
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	r := serve(t, proxytest.Config(front, addr), front, nil)
	c := proxytest.Connect(t, r.addr)
	io.WriteString(c, "request")
	c.CloseWrite()
	r.waitHeld(t, 1)
	proxytest.App(t, proxytest.ListenTCP(t, addr.String()), proxytest.Echo)
	proxytest.Expect(t, c, "request")
	proxytest.ExpectEnd(t, c)
}

// A client that resets while held is forgotten, the one who asks and the one
// who waits alike, even with a request in the queue.
func TestHeldClientGone(t *testing.T) {
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	r := serve(t, proxytest.Config(front, addr), front, nil)
	for _, request := range []string{"", "request"} {
		a, b, stays := proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)
		io.WriteString(a, request)
		io.WriteString(b, request)
		r.waitHeld(t, 3)
		proxytest.ResetConn(a)
		proxytest.ResetConn(b)
		proxytest.Eventually(t, "gone clients are forgotten", func() bool { return r.activity.open.Load() == 1 })
		proxytest.ResetConn(stays)
		proxytest.Eventually(t, "all are forgotten", func() bool { return r.activity.open.Load() == 0 })
	}
	if r.log.String() != "" {
		t.Errorf("a client that leaves is no news: %s", r.log)
	}
}

// When the start timeout is over, the client sees a failure, and the journal
// gets one record for all of them.
func TestStartTimeout(t *testing.T) {
	t.Parallel() // it waits more than it computes
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	cfg := proxytest.Config(front, addr)
	cfg.StartTimeout = 10 * time.Second // on a busy machine, too, enough to ask the app once
	r := serve(t, cfg, front, nil)
	var conns []*net.TCPConn
	for range 10 {
		conns = append(conns, proxytest.Connect(t, r.addr))
	}
	for _, c := range conns {
		proxytest.ExpectReset(t, c)
	}
	proxytest.Eventually(t, "all are forgotten", func() bool { return r.activity.open.Load() == 0 })
	if log := r.log.String(); proxytest.Lines(log) != 1 || !strings.Contains(log, "turned away") || !strings.Contains(log, "refused") {
		t.Errorf("journal:\n%s", log)
	}
}

// Who comes after the app has gone is held for the next one.
func TestAppComesBack(t *testing.T) {
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	r := serve(t, proxytest.Config(front, addr), front, nil)
	for range 3 {
		c := proxytest.Connect(t, r.addr)
		proxytest.Eventually(t, "the client is held", func() bool { return r.activity.open.Load() == 1 })
		l := proxytest.ListenTCP(t, addr.String())
		a := proxytest.Next(t, proxytest.Accepted(t, l))
		io.WriteString(a, "hello")
		proxytest.Expect(t, c, "hello")
		l.Close()
		proxytest.ResetConn(a)
		proxytest.ExpectReset(t, c)
		proxytest.Eventually(t, "the connection ends", func() bool { return r.activity.open.Load() == 0 })
	}
}

// An app that resets connections unheard while it starts gets each client
// again, with everything the client has said.
func TestResetUnheardIsTriedAgain(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	apps := proxytest.Accepted(t, l)
	c := proxytest.Connect(t, r.addr)
	for range 3 {
		proxytest.ResetConn(proxytest.Next(t, apps))
	}
	a := proxytest.Next(t, apps)
	io.WriteString(a, "220 ready\n")
	proxytest.Expect(t, c, "220 ready\n")
	// From now on the app is known to work: a reset is meant.
	other := proxytest.Connect(t, r.addr)
	proxytest.ResetConn(proxytest.Next(t, apps))
	proxytest.ExpectReset(t, other)
}

// So does a client that has spoken first, as with HTTP: an app that has not
// answered yet gets a moment to reset before it is sent anything.
func TestResetAtAcceptKeepsRequest(t *testing.T) {
	t.Parallel() // it waits more than it computes
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, func(s *server) { s.resetGrace = 10 * time.Second })
	var resets atomic.Int32
	proxytest.App(t, l, func(c *net.TCPConn) {
		if resets.Add(1) <= 20 {
			proxytest.ResetConn(c)
			return
		}
		proxytest.Echo(c)
	})
	proxytest.Ask(t, proxytest.Connect(t, r.addr), "request\n")
}

// That goes for each client until the app has answered one, also while it has
// accepted one.
func TestResetAtAcceptBesideASilentOne(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, func(s *server) { s.resetGrace = 20 * time.Second })
	apps := proxytest.Accepted(t, l)
	proxytest.Connect(t, r.addr)
	silent := proxytest.Next(t, apps)
	defer silent.Close()
	c := proxytest.Connect(t, r.addr)
	io.WriteString(c, "request\n")
	a := proxytest.Next(t, apps)
	a.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, _ := a.Read(make([]byte, 1)); n > 0 {
		t.Error("the app was told at once")
	}
	proxytest.ResetConn(a)
	a = proxytest.Next(t, apps)
	io.WriteString(a, "220 ready\n")
	proxytest.Expect(t, a, "request\n")
	proxytest.Expect(t, c, "220 ready\n")
}

// A clean end without a byte is an answer.
func TestCleanRefusalIsPassedOn(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	var n atomic.Int64
	proxytest.App(t, l, func(*net.TCPConn) { n.Add(1) })
	proxytest.ExpectEnd(t, proxytest.Connect(t, r.addr))
	if n.Load() != 1 {
		t.Errorf("the app was asked %d times", n.Load())
	}
}

// An app with a full backlog is asked again before the kernel's own second is over.
func TestFullBacklog(t *testing.T) {
	l, full := proxytest.FullBacklog(t)
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	c := proxytest.Connect(t, r.addr)
	r.waitHeld(t, 1)
	proxytest.App(t, l, proxytest.Echo)
	for _, c := range full {
		c.Close()
	}
	proxytest.Ask(t, c, "ping")
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
	reach.Source
	hangs atomic.Int64 // how many of the next
	end   chan struct{}
}

func (s *stuckSource) Sources(wire.Address, netip.AddrPort) ([]netip.AddrPort, error) {
	if s.hangs.Add(-1) >= 0 {
		<-s.end
	}
	return []netip.AddrPort{{}}, nil
}

func serveStuck(t *testing.T, startTimeout time.Duration) (*running, *stuckSource) {
	t.Helper()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.StartTimeout = startTimeout
	source := &stuckSource{Source: reach.New(cfg, nil, nil), end: make(chan struct{})}
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
	proxytest.Ask(t, proxytest.Connect(t, r.addr), "ping")
	proxytest.Eventually(t, "the app has answered", func() bool { return r.targets[r.cfg.Forwards[0].Listen].proven.Load() })
	return r, source
}

// Nobody waits for another's dial, once the app is there.
func TestDialsAtOnce(t *testing.T) {
	r, source := serveStuck(t, wire.Infinity)
	source.hangs.Store(1)
	slow := proxytest.Connect(t, r.addr)
	proxytest.Eventually(t, "a dial hangs", func() bool { return source.hangs.Load() <= 0 })
	proxytest.Ask(t, proxytest.Connect(t, r.addr), "ping")
	close(source.end)
	proxytest.Ask(t, slow, "ping")
}

// While a dial hangs the start timeout goes on, and who leaves is gone.
func TestDialThatHangs(t *testing.T) {
	r, source := serveStuck(t, 300*time.Millisecond)
	source.hangs.Store(2)
	late, gone := proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)
	proxytest.Eventually(t, "both dials hang", func() bool { return source.hangs.Load() <= 0 })
	proxytest.ResetConn(gone)
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want a reset", err)
	}
	proxytest.Eventually(t, "both are counted out", func() bool { return r.activity.open.Load() <= 1 }) // the first goes on
}

// Each client that is held has room of its own. More of them wait to be accepted,
// those of another target do not wait for these, and all are served.
func TestHeldRoom(t *testing.T) {
	front, other, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	addr := proxytest.FreeAddr(t)
	cfg := proxytest.Config(front, addr)
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: proxytest.AddrOf(other).ListenKey(), Target: proxytest.AddrOf(l)})
	r := prepareServer(t, cfg, proxytest.FilesOf(t, front, other))
	for _, target := range r.targets {
		target.held = make(slots, 3)
	}
	r.run(t)
	var clients []*net.TCPConn
	for range 10 {
		clients = append(clients, proxytest.Connect(t, r.addr))
	}
	proxytest.Eventually(t, "it is told", func() bool { return strings.Contains(r.log.String(), "3 clients held, no more are allowed") })
	if n := r.activity.open.Load(); n != 3 {
		t.Errorf("%d are accepted, want 3", n)
	}
	for range 5 {
		proxytest.Ask(t, proxytest.Connect(t, other.Addr().String()), "ping")
	}
	proxytest.App(t, proxytest.ListenTCP(t, addr.String()), proxytest.Echo)
	for _, c := range clients {
		proxytest.Ask(t, c, "ping")
	}
	if n := r.activity.open.Load(); n != 15 {
		t.Errorf("%d are open, want 15: who is served is not held", n)
	}
}
