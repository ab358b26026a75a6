package proxy

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// listenUDP opens a socket as systemd would, and keeps it.
func listenUDP(t testing.TB, network, addr string) *net.UDPConn {
	t.Helper()
	c := proxytest.Must(net.ListenPacket(network, addr))(t).(*net.UDPConn)
	t.Cleanup(func() { c.Close() })
	return c
}

func udpAddr(c *net.UDPConn) wire.Address {
	return wire.Address{Network: wire.UDP, IP: c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// freeUDPAddr is an address where nobody listens yet.
func freeUDPAddr(t testing.TB) wire.Address {
	t.Helper()
	c := listenUDP(t, "udp", "127.0.0.2:0") // no other socket has a port there for a moment
	defer c.Close()
	return udpAddr(c)
}

// udpConfig is a configuration with times that do not matter.
func udpConfig(front *net.UDPConn, app wire.Address) wire.Config {
	return wire.Config{
		Container: "dns.service", IdleTimeout: wire.Infinity, StartTimeout: time.Minute, DrainTimeout: time.Minute,
		Forwards: []wire.Forward{{Listen: udpAddr(front).ListenKey(), Target: app}},
	}
}

// serveUDP runs a server on front.
func serveUDP(t testing.TB, cfg wire.Config, front *net.UDPConn) *running {
	t.Helper()
	return serveFiles(t, cfg, proxytest.FilesOf(t, front))
}

// udpEcho answers every datagram until the test ends, and keeps what it got.
type udpEcho struct {
	*net.UDPConn
	mu  sync.Mutex
	got []string
}

func echoUDP(t testing.TB, addr string) *udpEcho {
	t.Helper()
	e := &udpEcho{UDPConn: listenUDP(t, "udp", addr)}
	var ended sync.WaitGroup
	ended.Go(func() {
		buf := make([]byte, 1<<16)
		for {
			n, from, err := e.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			e.mu.Lock()
			e.got = append(e.got, string(buf[:n]))
			e.mu.Unlock()
			e.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	t.Cleanup(func() {
		e.Close()
		ended.Wait()
	})
	return e
}

func (e *udpEcho) all() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.got...)
}

// dialUDP is a client that takes answers from the address it asks only.
func dialUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	c := proxytest.Must(net.Dial("udp", addr))(t).(*net.UDPConn)
	c.SetDeadline(time.Now().Add(proxytest.Patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends one datagram; hear reads one.
func say(t testing.TB, c *net.UDPConn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func hear(t testing.TB, c *net.UDPConn, want string) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("got %q (%d bytes), %v; want %q", buf[:min(n, 99)], n, err, want[:min(len(want), 99)])
	}
}

// Each client has a session, and datagrams of any size pass as they are.
func TestDatagrams(t *testing.T) {
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), echoUDP(t, "127.0.0.1:0")
	r := serveUDP(t, udpConfig(front, udpAddr(app.UDPConn)), front)
	a, b := dialUDP(t, front.LocalAddr().String()), dialUDP(t, front.LocalAddr().String())
	for _, size := range []int{1, 0, 1400, 9000, 65507} {
		text := strings.Repeat("x", size)
		say(t, a, text)
		hear(t, a, text)
	}
	say(t, b, "b")
	hear(t, b, "b")
	const bytes = 1 + 1400 + 9000 + 65507 + 1
	proxytest.Eventually(t, "all is counted", func() bool { return r.activity.Out.Load() == bytes })
	want := "0 connections and 2 sessions open, 2 accepted, 75.9 kB in, 75.9 kB out [open=2 reached=yes]"
	if got := r.status(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The datagrams that come before the app are given to it in order, each once,
// and those that the kernel has no room for are the last ones.
func TestDatagramsHeld(t *testing.T) {
	for name, n := range map[string]int{"few": 50, "too many": 5000} {
		t.Run(name, func(t *testing.T) {
			front, addr := listenUDP(t, "udp", "127.0.0.1:0"), freeUDPAddr(t)
			r := serveUDP(t, udpConfig(front, addr), front)
			c := dialUDP(t, front.LocalAddr().String())
			for i := range n {
				say(t, c, fmt.Sprint(i))
			}
			r.waitHeldOn(t, addr)
			app := echoUDP(t, addr.IP.String())
			say(t, c, "last") // dropped if there are too many
			proxytest.Eventually(t, "nothing is held", func() bool { return r.activity.held.Load() == 0 && !readable(t, front) })
			say(t, c, "end")
			proxytest.Eventually(t, "the app has all", func() bool { got := app.all(); return len(got) > 0 && got[len(got)-1] == "end" })
			got := app.all()
			for i, text := range got {
				if text == "last" || text == "end" {
					break
				}
				if text != fmt.Sprint(i) {
					t.Fatalf("the app got %q as number %d of %d", text, i, len(got))
				}
			}
			t.Logf("%d of %d", len(got), n+2)
			if name == "few" && len(got) != n+2 || name != "few" && (len(got) < 100 || len(got) > 2000) {
				t.Errorf("the app got %d datagrams of %d", len(got), n+2)
			}
		})
	}
}

func readable(t testing.TB, c *net.UDPConn) (yes bool) {
	proxytest.Must(c.SyscallConn())(t).Control(func(fd uintptr) { yes = sock.Ready(int(fd), unix.POLLIN) })
	return yes
}

// Answers come from the address that was asked, whatever the socket listens
// on. A connected client hears of no other.
func TestReplyAddress(t *testing.T) {
	app := echoUDP(t, "127.0.0.1:0")
	for _, test := range []struct {
		network, listen string
		ask             []string
	}{
		{"udp4", "0.0.0.0:0", []string{"127.0.0.1", "127.0.0.2"}},
		{"udp", "[::]:0", []string{"127.0.0.1", "127.0.0.2", "::1"}},
		{"udp6", "[::]:0", []string{"::1"}},
		{"udp4", "127.0.0.3:0", []string{"127.0.0.3"}},
	} {
		front := listenUDP(t, test.network, test.listen)
		serveUDP(t, udpConfig(front, udpAddr(app.UDPConn)), front)
		// One socket asks all of them: the sessions have nothing but that in common.
		for _, client := range []string{"127.0.0.1", "::1"} {
			port := uint16(0)
			for _, host := range test.ask {
				addr := netip.AddrPortFrom(netip.MustParseAddr(host), udpAddr(front).IP.Port())
				if addr.Addr().Is4() != (client == "127.0.0.1") {
					continue
				}
				local := netip.AddrPortFrom(netip.MustParseAddr(client), port)
				c := proxytest.Must(net.DialUDP("udp", net.UDPAddrFromAddrPort(local), net.UDPAddrFromAddrPort(addr)))(t)
				c.SetDeadline(time.Now().Add(proxytest.Patience))
				port = udpAddr(c).IP.Port()
				for range 2 {
					say(t, c, host)
					hear(t, c, host)
				}
				c.Close()
			}
		}
	}
}

// An app that goes down is waited for: what comes meanwhile is held, the
// datagram that found it gone first of all. Its old sessions reach it, too.
func TestDatagramAppComesBack(t *testing.T) {
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), echoUDP(t, "127.0.0.1:0")
	addr := udpAddr(app.UDPConn)
	r := serveUDP(t, udpConfig(front, addr), front)
	a, b := dialUDP(t, front.LocalAddr().String()), dialUDP(t, front.LocalAddr().String())
	for _, c := range []*net.UDPConn{a, b} {
		say(t, c, "before")
		hear(t, c, "before")
	}
	app.Close()
	for i := range 20 {
		say(t, a, fmt.Sprint(i))
		say(t, b, fmt.Sprint(i))
	}
	r.waitHeldOn(t, addr)
	echoUDP(t, addr.IP.String())
	for i := range 20 {
		hear(t, a, fmt.Sprint(i))
		hear(t, b, fmt.Sprint(i))
	}
}

// What no app takes is given up, with a word in the journal.
func TestDatagramsTooLate(t *testing.T) {
	front, addr := listenUDP(t, "udp", "127.0.0.1:0"), freeUDPAddr(t)
	cfg := udpConfig(front, addr)
	cfg.StartTimeout = 100 * time.Millisecond
	r := serveUDP(t, cfg, front)
	c := dialUDP(t, front.LocalAddr().String())
	for range 10 {
		say(t, c, "too early")
	}
	proxytest.Eventually(t, "nothing is held", func() bool {
		return strings.Contains(r.log.String(), "turned away") && r.activity.held.Load() == 0 && !readable(t, front)
	})
	if log := r.log.String(); !strings.Contains(log, udpAddr(c).String()+" turned away: dns.service took no datagram on "+addr.String()) {
		t.Errorf("journal:\n%s", log)
	}
	echoUDP(t, addr.IP.String())
	proxytest.Eventually(t, "one in time is answered", func() bool { // each has but a moment
		say(t, c, "in time")
		c.SetReadDeadline(time.Now().Add(cfg.StartTimeout))
		got := make([]byte, 100)
		n, err := c.Read(got)
		return err == nil && string(got[:n]) == "in time"
	})
}

// Held datagrams are still the socket's: whoever comes after a proxy that was
// killed, or stopped, delivers them.
func TestHeldSurvivesProxy(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		front, addr := listenUDP(t, "udp", "127.0.0.1:0"), freeUDPAddr(t)
		cfg := udpConfig(front, addr)
		cfg.DrainTimeout = 10 * time.Millisecond
		c := dialUDP(t, front.LocalAddr().String())
		m := proxytest.NewManager(t)
		p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), m.Env(), cfg.Args()...)
		say(t, c, "first")
		for !strings.HasSuffix(m.Told(t), "STATUS=0 connections and 1 session open, 0 accepted, 0 B in, 0 B out [open=1 reached=no]") {
			continue
		}
		p.Process.Signal(signal)
		p.Status(t)
		say(t, c, "second")
		serveUDP(t, cfg, front)
		echoUDP(t, addr.IP.String())
		hear(t, c, "first")
		hear(t, c, "second")
	}
}

// A proxy that is stopped still brings the answers that are on their way.
func TestDatagramDrain(t *testing.T) {
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), listenUDP(t, "udp", "127.0.0.1:0")
	r := prepareServer(t, udpConfig(front, udpAddr(app)), proxytest.FilesOf(t, front))
	settled := make(chan struct{})
	r.afterPause = func() { close(settled) }
	r.run(t)
	c := dialUDP(t, front.LocalAddr().String())
	say(t, c, "question")
	buf := make([]byte, 100)
	n, from, err := app.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	r.stop <- syscall.SIGTERM
	<-settled
	time.Sleep(50 * time.Millisecond) // how long the answer takes
	app.WriteToUDPAddrPort(buf[:n], from)
	hear(t, c, "question")
	r.wait(t)
	if log := r.log.String(); !strings.Contains(log, "stopped, dns.service not needed") {
		t.Errorf("journal:\n%s", log)
	}
}

// A crowd of senders takes no more than its bound, and drives out who has been
// silent longest, but not who is in a conversation.
func TestManySenders(t *testing.T) {
	const most, crowd = 8, 100
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), echoUDP(t, "127.0.0.1:0")
	r := prepareServer(t, udpConfig(front, udpAddr(app.UDPConn)), proxytest.FilesOf(t, front))
	r.relay.sessions.most = most
	r.run(t)
	talker := dialUDP(t, front.LocalAddr().String())
	for range 2 {
		say(t, talker, "hello")
		hear(t, talker, "hello")
	}
	var own atomic.Pointer[sock.Socket]
	r.relay.wait(func() {
		for _, s := range r.relay.sessions.all {
			own.Store(s.backend)
		}
	})
	for i := range crowd {
		c := dialUDP(t, front.LocalAddr().String())
		say(t, c, fmt.Sprint(i))
		hear(t, c, fmt.Sprint(i))
		if n := r.activity.sessions.Load(); n > most {
			t.Fatalf("%d sessions", n)
		}
	}
	say(t, talker, "still there")
	hear(t, talker, "still there")
	if n := r.activity.sessions.Load(); n != most {
		t.Errorf("%d sessions, want %d", n, most)
	}
	r.relay.wait(func() {
		kept := false
		for _, s := range r.relay.sessions.all {
			kept = kept || s.backend == own.Load()
		}
		if !kept {
			t.Error("the crowd has driven out a conversation")
		}
	})
}

// Silence ends a session: soon if there was no more than a question and an
// answer, later if there was.
func TestSessionsExpire(t *testing.T) {
	a := newActivity()
	table := newSessions(10, a)
	f := &front{relay: &relay{sessions: table}}
	now := time.Now()
	add := func(port uint16) *session {
		s := &session{front: f, from: origin{client: netip.AddrPortFrom(netip.IPv6Loopback(), port)}, last: now}
		table.keep(s)
		return s
	}
	asked, answered, talking := add(1), add(2), add(3)
	answered.heard(now)
	talking.heard(now)
	talking.spoken(now)
	for _, test := range []struct {
		after time.Duration
		left  int
	}{{briefLimit, 3}, {briefLimit + 1, 1}, {steadyLimit, 1}, {steadyLimit + 1, 0}} {
		at := now.Add(test.after)
		for s, left := range map[*session]bool{asked: test.left == 3, answered: test.left == 3, talking: test.left > 0} {
			if got := table.find(s.from, at) != nil; got != left {
				t.Errorf("%s: found %v: %v", test.after, s.from, got)
			}
		}
		for s := range table.expired(at) {
			table.forget(s)
		}
		if len(table.all) != test.left || a.sessions.Load() != int64(test.left) {
			t.Errorf("%s: %d sessions are left, want %d", test.after, len(table.all), test.left)
		}
	}
	if !table.nextExpiry().IsZero() {
		t.Error("an empty table expires")
	}
}

// The container's idle time runs from the last datagram, of either direction,
// whatever sessions there are.
func TestDatagramIdleClock(t *testing.T) {
	t.Parallel() // it waits more than it computes
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), listenUDP(t, "udp", "127.0.0.1:0")
	cfg := udpConfig(front, udpAddr(app))
	cfg.IdleTimeout = 2 * time.Second
	r := serveUDP(t, cfg, front)
	c := dialUDP(t, front.LocalAddr().String())
	say(t, c, "ping")
	buf := make([]byte, 100)
	_, from, err := app.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for range 15 { // answers alone, for one and a half idle times
		time.Sleep(cfg.IdleTimeout / 10) // the load, not a wait
		last = time.Now()
		app.WriteToUDPAddrPort([]byte("pong"), from)
		hear(t, c, "pong")
	}
	r.wait(t)
	if idle := time.Since(last); idle < cfg.IdleTimeout {
		t.Errorf("gone %s after the last datagram", idle)
	}
	if log := r.log.String(); !strings.Contains(log, "idle for 2s") {
		t.Errorf("journal:\n%s", log)
	}
}

// A datagram that is held keeps the proxy up.
func TestHeldIsUse(t *testing.T) {
	front, addr := listenUDP(t, "udp", "127.0.0.1:0"), freeUDPAddr(t)
	cfg := udpConfig(front, addr)
	cfg.IdleTimeout, cfg.DrainTimeout = 50*time.Millisecond, time.Millisecond
	began := time.Now()
	c := dialUDP(t, front.LocalAddr().String())
	say(t, c, "ping") // before, else the idle time may be over
	r := serveUDP(t, cfg, front)
	r.waitHeldOn(t, addr)
	proxytest.Eventually(t, "the idle time is over, had there been none", func() bool { return time.Since(began) > 4*cfg.IdleTimeout })
	echoUDP(t, addr.IP.String())
	hear(t, c, "ping")
	r.wait(t)
}

// TCP and UDP of one port are one endpoint: either keeps it up.
func TestBothProtocols(t *testing.T) {
	tcp, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	front, udpApp := listenUDP(t, "udp", tcp.Addr().String()), echoUDP(t, "127.0.0.1:0")
	cfg := proxytest.Config(tcp, proxytest.AddrOf(l))
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: udpAddr(front).ListenKey(), Target: udpAddr(udpApp.UDPConn)})
	cfg.IdleTimeout = 50 * time.Millisecond
	proxytest.App(t, l, proxytest.Echo)
	began := time.Now()
	c, u := proxytest.Connect(t, tcp.Addr().String()), dialUDP(t, front.LocalAddr().String())
	r := serveFiles(t, cfg, append(proxytest.FilesOf(t, tcp), proxytest.FilesOf(t, front)...))
	proxytest.Ask(t, c, "ping")
	proxytest.Eventually(t, "the idle time is over for UDP", func() bool { return time.Since(began) > 3*cfg.IdleTimeout })
	say(t, u, "ping")
	hear(t, u, "ping")
	c.Close()
	r.wait(t)
	if log := r.log.String(); !strings.Contains(log, "2 accepted, 8 B in, 8 B out") {
		t.Errorf("journal:\n%s", log)
	}
}

// The real program, started again whenever something is in the queue, and
// datagrams that come at about its end: each is answered once. An answer that
// takes longer than the idle time is lost, so that is longer than the app may
// have to wait for a processor.
func TestDatagramEdgeByForce(t *testing.T) {
	t.Parallel() // it waits more than it computes
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), echoUDP(t, "127.0.0.1:0")
	cfg := udpConfig(front, udpAddr(app.UDPConn))
	cfg.IdleTimeout = 500 * time.Millisecond
	files := proxytest.FilesOf(t, front)
	asked := proxytest.EdgeByForce(t, 2, 10, cfg.IdleTimeout, 2*cfg.IdleTimeout, func() bool { return readable(t, front) }, func() {
		if p := proxytest.Start(t, nil, files, nil, cfg.Args()...); p.Status(t) != 0 {
			t.Errorf("exit status %d: %s", p.Status(t), p.Log)
		}
	}, func() func(string) {
		c, buf := dialUDP(t, front.LocalAddr().String()), make([]byte, 100)
		return func(text string) {
			io.WriteString(c, text)
			c.SetReadDeadline(time.Now().Add(proxytest.Patience))
			if n, err := c.Read(buf); err != nil || string(buf[:n]) != text {
				t.Errorf("%q was answered with %q, %v", text, buf[:n], err)
			}
		}
	})
	if n := len(app.all()); n != asked {
		t.Errorf("the app got %d datagrams of %d", n, asked)
	}
}

// A datagram there and back takes no memory of Go's, so that there is nothing
// to collect however many come.
func TestDatagramsAllocateNothing(t *testing.T) {
	front, app := listenUDP(t, "udp", "127.0.0.1:0"), listenUDP(t, "udp", "127.0.0.1:0")
	r := prepareServer(t, udpConfig(front, udpAddr(app)), proxytest.FilesOf(t, front))
	defer r.close()
	r.relay.resume() // alone: what looks at the time allocates
	c, buf := dialUDP(t, front.LocalAddr().String()), make([]byte, 100)
	app.SetDeadline(time.Now().Add(proxytest.Patience))
	n := testing.AllocsPerRun(500, func() {
		c.Write(buf)
		_, from, _ := app.ReadFromUDPAddrPort(buf)
		app.WriteToUDPAddrPort(buf, from)
		if _, err := c.Read(buf); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
