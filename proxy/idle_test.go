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

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Without any connection the proxy goes too, and does not close the socket of
// whoever passed it: what comes next waits there for the next proxy.
func TestIdleFromTheStart(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = time.Millisecond
	serve(t, cfg, front, nil).wait(t)
	c := proxytest.Connect(t, front.Addr().String())
	cfg.IdleTimeout = wire.Infinity
	serve(t, cfg, front, nil)
	proxytest.Ask(t, c, "ping")
}

// The idle time runs from the end of the last connection.
func TestIdleClock(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 100 * time.Millisecond
	began := time.Now()
	c := proxytest.Connect(t, front.Addr().String()) // before, else the idle time may be over
	r := serve(t, cfg, front, nil)
	proxytest.Eventually(t, "the idle time is over, had there been none", func() bool { return time.Since(began) > 2*cfg.IdleTimeout })
	proxytest.Ask(t, c, "ping")
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
	if left := a.untilIdle(time.Hour); left > time.Hour || left < time.Hour-proxytest.Patience {
		t.Errorf("just after: %s", left)
	}
}

// A connection that is accepted when the idle time is just over is kept.
func TestAcceptedAtTheEdge(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan *net.TCPConn, 1)
	var once sync.Once
	r := serve(t, cfg, front, func(s *server) {
		s.beforePause = func() {
			once.Do(func() {
				conns <- proxytest.Connect(t, front.Addr().String())
				proxytest.Eventually(t, "it is accepted", func() bool { return s.activity.accepted.Load() >= 1 })
			})
		}
	})
	c := proxytest.Next(t, conns)
	proxytest.Ask(t, c, "ping")
	proxytest.Ask(t, proxytest.Connect(t, r.addr), "and the proxy accepts again")
	select {
	case <-r.done:
		t.Error("the proxy left its clients")
	default:
	}
}

// A connection that comes when accepting has ended stays in the backlog.
func TestInBacklogAtTheEdge(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan *net.TCPConn, 1)
	serve(t, cfg, front, func(s *server) {
		s.afterPause = func() { conns <- proxytest.Connect(t, front.Addr().String()) }
	}).wait(t)
	c := proxytest.Next(t, conns)
	if !proxytest.Waiting(t, front) {
		t.Fatal("the connection is not in the backlog")
	}
	cfg.IdleTimeout = wire.Infinity
	serve(t, cfg, front, nil)
	proxytest.Ask(t, c, "ping")
}

// The real program with an idle time of 5 ms, started again whenever somebody
// waits in the backlog, and clients that come at about its end: each is
// answered once.
func TestIdleEdgeByForce(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	var answered atomic.Int64
	proxytest.App(t, l, func(c *net.TCPConn) { answered.Add(1); proxytest.Echo(c) })
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 5 * time.Millisecond
	files := proxytest.FilesOf(t, front)
	asked := proxytest.EdgeByForce(t, 2, 60, cfg.IdleTimeout, 8*time.Millisecond, func() bool { return proxytest.Waiting(t, front) }, func() {
		if p := proxytest.Start(t, nil, files, nil, cfg.Args()...); p.Status(t) != 0 {
			t.Errorf("exit status %d: %s", p.Status(t), p.Log)
		}
	}, func() func(string) {
		return func(line string) { proxytest.OneRequest(t, front.Addr().String(), line) }
	})
	if n := int(answered.Load()); n != asked {
		t.Errorf("%d answers for %d requests", n, asked)
	}
}

// SIGTERM lets open connections end, and takes no new ones.
func TestDrain(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	apps := proxytest.Accepted(t, l)
	m := proxytest.NewManager(t)
	p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), m.Env(), proxytest.Config(front, proxytest.AddrOf(l)).Args()...)
	c := proxytest.Connect(t, front.Addr().String())
	a := proxytest.Next(t, apps)
	p.Process.Signal(syscall.SIGTERM)
	for m.Told(t) != "STOPPING=1" {
	}
	proxytest.Connect(t, front.Addr().String())
	io.WriteString(c, "request")
	proxytest.Expect(t, a, "request")
	io.WriteString(a, "answer")
	proxytest.Expect(t, c, "answer")
	a.Close()
	c.Close()
	if status := p.Status(t); status != 0 || !strings.Contains(p.Log.String(), "stopped") {
		t.Errorf("exit status %d: %s", status, p.Log)
	}
	if !proxytest.Waiting(t, front) {
		t.Error("the late client is not in the backlog")
	}
}

// A proxy that lets go of its sockets takes whoever is in the backlog first, and
// somebody else can listen at once, while connections go on. The stop that
// follows does not cut them.
func TestLetGo(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	datagrams := proxytest.Must(net.ListenPacket("udp", front.Addr().String()))(t).(*net.UDPConn)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	udp := wire.Address{Network: wire.UDP, IP: proxytest.AddrOf(front).IP}
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: udp.ListenKey(), Target: wire.Address{Network: wire.UDP, IP: proxytest.FreeAddr(t).IP}})
	r := prepareServer(t, cfg, append(proxytest.FilesOf(t, front), proxytest.Must(datagrams.File())(t)))
	front.Close()
	datagrams.Close()
	late := make(chan *net.TCPConn, 1)
	r.afterPause = func() { late <- proxytest.Connect(t, r.addr) }
	r.run(t)
	c := proxytest.Connect(t, r.addr)
	proxytest.Ask(t, c, "before")
	r.stop <- wire.LetGo
	proxytest.Eventually(t, "the sockets are free", func() bool {
		l, err := net.Listen("tcp", r.addr)
		if err != nil {
			return false
		}
		l.Close()
		p, err := net.ListenPacket("udp", r.addr)
		if err == nil {
			p.Close()
		}
		return err == nil
	})
	r.stop <- syscall.SIGTERM
	for _, c := range []*net.TCPConn{c, <-late} {
		proxytest.Ask(t, c, "after")
		c.Close()
	}
	r.wait(t)
}

// A client that is held when SIGTERM comes still has its chance.
func TestDrainHeld(t *testing.T) {
	front, addr := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	settled := make(chan struct{})
	r := serve(t, proxytest.Config(front, addr), front, func(s *server) { s.afterPause = func() { close(settled) } })
	c := proxytest.Connect(t, r.addr)
	r.waitHeld(t, 1)
	r.stop <- syscall.SIGTERM
	<-settled
	proxytest.App(t, proxytest.ListenTCP(t, addr.String()), proxytest.Echo)
	proxytest.Ask(t, c, "ping")
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
			front, l, free := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
			second := proxytest.ListenTCP(t, "127.0.0.1:0")
			apps := proxytest.Accepted(t, l)
			cfg := proxytest.Config(front, proxytest.AddrOf(l))
			cfg.DrainTimeout = test.drain
			cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: proxytest.AddrOf(second).ListenKey(), Target: free})
			r := serveFiles(t, cfg, proxytest.FilesOf(t, front, second))
			held := proxytest.Connect(t, second.Addr().String())
			r.waitHeldOn(t, free)
			c := proxytest.Connect(t, front.Addr().String())
			a := proxytest.Next(t, apps)
			for range test.signals {
				r.stop <- syscall.SIGTERM
			}
			for _, conn := range []*net.TCPConn{c, a, held} {
				proxytest.ExpectReset(t, conn)
			}
			r.wait(t)
		})
	}
}

// Without descriptors left, clients wait in the backlog, the proxy does not
// spin, and the journal does not fill.
func TestOutOfDescriptors(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), nil, proxytest.Config(front, proxytest.AddrOf(l)).Args()...)
	proxytest.Ask(t, proxytest.Connect(t, front.Addr().String()), "ping")
	limit := func(n uint64) {
		if err := unix.Prlimit(p.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: 4096}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(8)
	told := time.Now()
	c := proxytest.Connect(t, front.Addr().String())
	io.WriteString(c, "ping")
	proxytest.Eventually(t, "it is out of descriptors", func() bool { return strings.Contains(p.Log.String(), "too many open files") })
	before, began := cpuTicks(t, p.Process.Pid), time.Now()
	proxytest.Eventually(t, "a second has passed", func() bool { return time.Since(began) > time.Second })
	if ticks := cpuTicks(t, p.Process.Pid) - before; ticks > 30 {
		t.Errorf("%d %% of a processor while it can do nothing", ticks)
	}
	// One in 10 s, of which there is one unless the machine stands still.
	if n := strings.Count(p.Log.String(), "too many"); n > 1+int(time.Since(told)/(10*time.Second)) {
		t.Errorf("%d lines in the journal:\n%s", n, p.Log)
	}
	limit(4096)
	proxytest.Expect(t, c, "ping")
}

// The count of connections that fit keeps that from happening.
func TestCapacity(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, func(s *server) { s.slots = make(slots, 2) })
	a, b := proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)
	proxytest.Ask(t, a, "ping")
	proxytest.Ask(t, b, "ping")
	c := proxytest.Connect(t, r.addr)
	io.WriteString(c, "ping")
	proxytest.Eventually(t, "the third waits", func() bool {
		return proxytest.Waiting(t, front) && strings.Contains(r.log.String(), "others wait to be accepted")
	})
	a.Close()
	proxytest.Expect(t, c, "ping")
}

// MaxConnections= does not shut out one port for another, and all who wait are
// served one after the other.
func TestMaxConnections(t *testing.T) {
	front, second, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: proxytest.AddrOf(second).ListenKey(), Target: proxytest.AddrOf(l)})
	cfg.MaxConnections = 1
	r := serveFiles(t, cfg, proxytest.FilesOf(t, front, second))
	var all sync.WaitGroup
	for i := range 20 {
		c := proxytest.Connect(t, []net.Listener{front, second}[i%2].Addr().String())
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
