package proxy

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Without any connection the proxy goes too, and does not close the socket of
// whoever passed it: what comes next waits there for the next proxy.
func TestIdleFromTheStart(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout = time.Millisecond
	serve(t, cfg, front, nil).wait(t)
	c := connect(t, front.Addr().String())
	cfg.IdleTimeout = wire.Infinity
	serve(t, cfg, front, nil)
	ask(t, c, "ping")
}

// The idle time runs from the end of the last connection.
func TestIdleClock(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout = 100 * time.Millisecond
	began := time.Now()
	r := serve(t, cfg, front, nil)
	c := connect(t, r.addr)
	eventually(t, "the idle time is over, had there been none", func() bool { return time.Since(began) > 2*cfg.IdleTimeout })
	ask(t, c, "ping")
	c.Close()
	closed := time.Now()
	r.wait(t)
	if idle := time.Since(closed); idle < cfg.IdleTimeout {
		t.Errorf("gone %s after the last connection, want %s", idle, cfg.IdleTimeout)
	}
	if log := r.log.String(); !strings.Contains(log, "idle for 100ms") || !strings.Contains(log, "1 accepted, 4 B in, 4 B out") {
		t.Errorf("journal:\n%s", log)
	}
}

func TestUntilIdle(t *testing.T) {
	a := &activity{start: time.Now().Add(-time.Hour)}
	if left := a.untilIdle(time.Minute); left > -58*time.Minute {
		t.Errorf("an hour without any: %s", left)
	}
	a.begin()
	if left := a.untilIdle(time.Minute); left != time.Minute {
		t.Errorf("busy: %s", left)
	}
	a.end()
	if left := a.untilIdle(time.Minute); left > time.Minute || left < time.Minute-patience {
		t.Errorf("just after: %s", left)
	}
}

// A connection that is accepted when the idle time is just over is kept.
func TestAcceptedAtTheEdge(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan *net.TCPConn, 1)
	var once sync.Once
	r := serve(t, cfg, front, func(s *server) {
		s.beforePause = func() {
			once.Do(func() {
				conns <- connect(t, front.Addr().String())
				eventually(t, "it is accepted", func() bool { return s.activity.accepted.Load() >= 1 })
			})
		}
	})
	c := next(t, conns)
	ask(t, c, "ping")
	ask(t, connect(t, r.addr), "and the proxy accepts again")
	select {
	case <-r.done:
		t.Error("the proxy left its clients")
	default:
	}
}

// A connection that comes when accepting has ended stays in the backlog.
func TestInBacklogAtTheEdge(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan *net.TCPConn, 1)
	serve(t, cfg, front, func(s *server) {
		s.afterPause = func() { conns <- connect(t, front.Addr().String()) }
	}).wait(t)
	c := next(t, conns)
	if !waiting(t, front) {
		t.Fatal("the connection is not in the backlog")
	}
	cfg.IdleTimeout = wire.Infinity
	serve(t, cfg, front, nil)
	ask(t, c, "ping")
}

// waiting tells what systemd asks: is there a connection in the backlog?
func waiting(t testing.TB, l *net.TCPListener) (yes bool) {
	raw := must(l.SyscallConn())(t)
	raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = n > 0
	})
	return yes
}

// The real program with an idle time of 5 ms, started again whenever somebody
// waits in the backlog, and clients that come at about its end: each is
// answered once.
func TestIdleEdgeByForce(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	var answered atomic.Int64
	app(t, l, func(c *net.TCPConn) { answered.Add(1); echo(c) })
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	files := filesOf(t, front)
	asked := edgeByForce(t, 2, 60, cfg.IdleTimeout, 8*time.Millisecond, func() bool { return waiting(t, front) }, func() {
		if p := start(t, nil, files, nil, cfg.Args()...); p.status(t) != 0 {
			t.Errorf("exit status %d: %s", p.status(t), p.log)
		}
	}, func() func(string) {
		return func(line string) { oneRequest(t, front.Addr().String(), line) }
	})
	if n := int(answered.Load()); n != asked {
		t.Errorf("%d answers for %d requests", n, asked)
	}
}

func oneRequest(t *testing.T, addr, line string) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, line)
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != line {
		t.Errorf("%q was answered with %q, %v", line, got, err)
	}
}

// SIGTERM lets open connections end, and takes no new ones.
func TestDrain(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	apps := accepted(t, l)
	m := newManager(t)
	p := start(t, nil, filesOf(t, front), m.env(), config(front, addrOf(l)).Args()...)
	c := connect(t, front.Addr().String())
	a := next(t, apps)
	p.Process.Signal(syscall.SIGTERM)
	for m.told(t) != "STOPPING=1" {
	}
	connect(t, front.Addr().String())
	io.WriteString(c, "request")
	expect(t, a, "request")
	io.WriteString(a, "answer")
	expect(t, c, "answer")
	a.Close()
	c.Close()
	if status := p.status(t); status != 0 || !strings.Contains(p.log.String(), "stopped") {
		t.Errorf("exit status %d: %s", status, p.log)
	}
	if !waiting(t, front) {
		t.Error("the late client is not in the backlog")
	}
}

// A client that is held when SIGTERM comes still has its chance.
func TestDrainHeld(t *testing.T) {
	front, addr := listenTCP(t, "127.0.0.1:0"), freeAddr(t)
	settled := make(chan struct{})
	r := serve(t, config(front, addr), front, func(s *server) { s.afterPause = func() { close(settled) } })
	c := connect(t, r.addr)
	r.waitHeld(t, 1)
	r.stop <- syscall.SIGTERM
	<-settled
	app(t, listenTCP(t, addr.String()), echo)
	ask(t, c, "ping")
	c.Close()
	r.wait(t)
}

// What is left after the drain timeout, or when a second signal comes, is
// reset. Held connections are too.
func TestDrainEnds(t *testing.T) {
	for name, test := range map[string]struct {
		drain   time.Duration
		signals int
	}{"timeout": {50 * time.Millisecond, 1}, "second signal": {wire.Infinity, 2}} {
		t.Run(name, func(t *testing.T) {
			front, l, free := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0"), freeAddr(t)
			second := listenTCP(t, "127.0.0.1:0")
			apps := accepted(t, l)
			cfg := config(front, addrOf(l))
			cfg.DrainTimeout = test.drain
			cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: addrOf(second).ListenKey(), Target: free})
			r := serveFiles(t, cfg, filesOf(t, front, second))
			held := connect(t, second.Addr().String())
			r.waitHeldOn(t, free)
			c := connect(t, front.Addr().String())
			a := next(t, apps)
			for range test.signals {
				r.stop <- syscall.SIGTERM
			}
			for _, conn := range []*net.TCPConn{c, a, held} {
				expectReset(t, conn)
			}
			r.wait(t)
		})
	}
}

// Without descriptors left, clients wait in the backlog, the proxy does not
// spin, and the journal does not fill.
func TestOutOfDescriptors(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	p := start(t, nil, filesOf(t, front), nil, config(front, addrOf(l)).Args()...)
	ask(t, connect(t, front.Addr().String()), "ping")
	limit := func(n uint64) {
		if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 4096}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(8)
	c := connect(t, front.Addr().String())
	io.WriteString(c, "ping")
	eventually(t, "it is out of descriptors", func() bool { return strings.Contains(p.log.String(), "too many open files") })
	before, began := cpuTicks(t, p.Process.Pid), time.Now()
	eventually(t, "a second has passed", func() bool { return time.Since(began) > time.Second })
	if ticks := cpuTicks(t, p.Process.Pid) - before; ticks > 30 {
		t.Errorf("%d %% of a processor while it can do nothing", ticks)
	}
	if n := strings.Count(p.log.String(), "too many"); n != 1 {
		t.Errorf("%d lines in the journal:\n%s", n, p.log)
	}
	limit(4096)
	expect(t, c, "ping")
}

// The count of connections that fit keeps that from happening.
func TestCapacity(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	r := serve(t, config(front, addrOf(l)), front, func(s *server) { s.slots = make(slots, 2) })
	a, b := connect(t, r.addr), connect(t, r.addr)
	ask(t, a, "ping")
	ask(t, b, "ping")
	c := connect(t, r.addr)
	io.WriteString(c, "ping")
	eventually(t, "the third waits", func() bool {
		return waiting(t, front) && strings.Contains(r.log.String(), "others wait to be accepted")
	})
	a.Close()
	expect(t, c, "ping")
}

// MaxConnections= does not shut out one port for another, and all who wait are
// served one after the other.
func TestMaxConnections(t *testing.T) {
	front, second, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: addrOf(second).ListenKey(), Target: addrOf(l)})
	cfg.MaxConnections = 1
	r := serveFiles(t, cfg, filesOf(t, front, second))
	var all sync.WaitGroup
	for i := range 20 {
		c := connect(t, []net.Listener{front, second}[i%2].Addr().String())
		all.Go(func() {
			io.WriteString(c, "ping")
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			if n := r.activity.open.Load(); n > 1 {
				t.Errorf("%d connections are open", n)
			}
			c.Close()
		})
	}
	all.Wait()
	if n := strings.Count(r.log.String(), "1 connection open, no more are allowed"); n != 1 {
		t.Errorf("told %d times: %s", n, r.log)
	}
}
