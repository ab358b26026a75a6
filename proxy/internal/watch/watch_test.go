package watch

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
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

// watching is a watcher inside the test process.
type watching struct {
	*watcher
	stop chan os.Signal
	done chan struct{}
	log  *proxytest.Log
}

// nativeConfig is a configuration with times that do not matter.
func nativeConfig() wire.Config {
	return wire.Config{Container: "web.service", Native: true, IdleTimeout: wire.Infinity, StartTimeout: time.Minute, DrainTimeout: time.Minute}
}

// prepareWatcher makes a watcher of fronts, from which the test accepts: the
// way to the watcher makes them blocking, as systemd does.
func prepareWatcher(t testing.TB, cfg wire.Config, fronts ...*net.TCPListener) *watching {
	t.Helper()
	w := &watching{stop: make(chan os.Signal, 2), done: make(chan struct{}), log: new(proxytest.Log)}
	w.watcher = proxytest.Must(newWatcher(cfg, proxytest.FilesOf(t, fronts...), w.log))(t)
	for _, front := range fronts {
		setNonblock(t, front)
	}
	return w
}

func setNonblock(t testing.TB, l *net.TCPListener) {
	t.Helper()
	proxytest.Must(l.SyscallConn())(t).Control(func(fd uintptr) { unix.SetNonblock(int(fd), true) })
}

// run runs it until the test ends. The doors are open then.
func (w *watching) run(t testing.TB) {
	doors := proxytest.Must(newDoors(w.files(t)))(t)
	go func() {
		defer close(w.done)
		w.watch(w.stop)
	}()
	t.Cleanup(func() {
		select {
		case w.stop <- syscall.SIGTERM:
		default:
		}
		w.wait(t)
		closeDoors(doors)
	})
}

// files are the doors again.
func (w *watching) files(t testing.TB) []*os.File {
	t.Helper()
	var files []*os.File
	for _, d := range w.doors {
		fd := proxytest.Must(unix.Dup(d.fd))(t)
		files = append(files, os.NewFile(uintptr(fd), "door"))
	}
	return files
}

func (w *watching) wait(t testing.TB) {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(proxytest.Patience):
		t.Fatalf("the watcher does not end: %s", w.log)
	}
}

// watchFront runs a watcher of one socket.
func watchFront(t testing.TB, cfg wire.Config, front *net.TCPListener, tweak func(*watching)) *watching {
	t.Helper()
	w := prepareWatcher(t, cfg, front)
	if tweak != nil {
		tweak(w)
	}
	w.run(t)
	return w
}

// knocking dials in the background and returns once the client has sent its
// first segment. The channel has the connection once there is one.
func knocking(t testing.TB, addr netip.AddrPort) <-chan *net.TCPConn {
	t.Helper()
	conns := make(chan *net.TCPConn, 1)
	sent := func() (n int) { // proc(5), /proc/net/tcp
		for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
			for line := range strings.Lines(string(proxytest.Must(os.ReadFile(table))(t))) {
				const remote, state, synSent = 2, 3, "02"
				f := strings.Fields(line)
				if f[state] == synSent && strings.HasSuffix(f[remote], fmt.Sprintf(":%04X", addr.Port())) {
					n++
				}
			}
		}
		return n
	}
	before := sent()
	go func() {
		c, err := net.DialTimeout("tcp", addr.String(), proxytest.Patience)
		if err != nil {
			t.Error(err)
			close(conns)
			return
		}
		c.SetDeadline(time.Now().Add(proxytest.Patience))
		conns <- c.(*net.TCPConn)
	}()
	proxytest.Eventually(t, "the client has knocked", func() bool { return sent() > before })
	return conns
}

// Whatever the family: nobody comes in while the door is shut, and who has
// knocked is let in when it opens.
func TestDoor(t *testing.T) {
	for listen, client := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", ":0": "127.0.0.1", "[::]:0": "::1"} {
		t.Run(listen, func(t *testing.T) {
			t.Parallel()
			front := proxytest.ListenTCP(t, listen)
			addr := netip.AddrPortFrom(netip.MustParseAddr(client), proxytest.AddrOf(front).IP.Port())
			w := prepareWatcher(t, nativeConfig(), front)
			defer w.close()
			inside := proxytest.Connect(t, addr.String())
			if u := w.look(); u.open != 1 || len(u.waiting) != 1 || u.waiting[0] != inside.LocalAddr().(*net.TCPAddr).AddrPort() {
				t.Errorf("a client waits for accept: %+v", u)
			}
			if !w.shut() {
				t.Fatal(w.log)
			}
			conns := knocking(t, addr)
			if u := w.look(); u.open != 1 {
				t.Errorf("shut: %+v", u)
			}
			proxytest.App(t, front, proxytest.Echo)
			proxytest.Ask(t, inside, "who was inside does not notice")
			w.open()
			proxytest.Ask(t, proxytest.Next(t, conns), "ping")
		})
	}
}

// What counts is what the app still has, or is to have.
func TestUse(t *testing.T) {
	front, other := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	w := prepareWatcher(t, nativeConfig(), front)
	defer w.close()
	apps := proxytest.Accepted(t, front)
	expectOpen := func(what string, n int) {
		t.Helper()
		proxytest.Eventually(t, what, func() bool { return w.look().open == n })
	}
	expectOpen("nothing", 0)
	proxytest.Connect(t, other.Addr().String())
	expectOpen("a client of another port", 0)
	c := proxytest.Connect(t, front.Addr().String())
	a := proxytest.Next(t, apps)
	expectOpen("a connection, both ends on this machine", 1)
	c.CloseWrite()
	proxytest.ExpectEnd(t, a)
	expectOpen("the client has shut down its side", 1)
	a.CloseWrite()
	expectOpen("both have shut down their side", 0) // nothing can be said any more
	a.Close()

	c = proxytest.Connect(t, front.Addr().String())
	a = proxytest.Next(t, apps)
	a.CloseWrite()
	proxytest.ExpectEnd(t, c)
	expectOpen("the app has shut down its side", 1)
	a.Close()
	expectOpen("the app has closed, the client not yet", 0)

	raw := proxytest.Must(front.SyscallConn())(t)
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60) })
	proxytest.Connect(t, front.Addr().String())
	expectOpen("half a handshake", 1)
}

// Who is inside when the idle time is over keeps the proxy, and newcomers are
// let in again.
func TestInsideAtTheEdge(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	cfg := nativeConfig()
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan *net.TCPConn, 1)
	var once sync.Once
	w := watchFront(t, cfg, front, func(w *watching) {
		w.beforeShut = func() { once.Do(func() { conns <- proxytest.Connect(t, front.Addr().String()) }) }
	})
	c := proxytest.Next(t, conns)
	proxytest.Ask(t, c, "ping")
	proxytest.Ask(t, proxytest.Connect(t, front.Addr().String()), "ping")
	select {
	case <-w.done:
		t.Error("the proxy left its client")
	default:
	}
}

// Who knocks when the doors are shut is let in by Open. Meanwhile the proxy is
// gone and the app may be, too.
func TestKnockingAtTheEdge(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	cfg := nativeConfig()
	cfg.IdleTimeout = 5 * time.Millisecond
	conns := make(chan (<-chan *net.TCPConn), 1)
	w := prepareWatcher(t, cfg, front)
	files := w.files(t)
	w.afterShut = func() { conns <- knocking(t, proxytest.AddrOf(front).IP) }
	w.run(t)
	w.wait(t)
	knocks := <-conns
	if proxytest.Waiting(t, front) || len(knocks) > 0 {
		t.Fatal("the client came in")
	}
	if err := Open(files); err != nil {
		t.Fatal(err)
	}
	proxytest.Ask(t, proxytest.Next(t, knocks), "ping")
	if !strings.Contains(w.log.String(), "idle for 5ms") {
		t.Errorf("journal:\n%s", w.log)
	}
}

// With the doors shut and nobody inside, nobody comes to be inside: clients
// that connect all the time, each at a moment of its own.
func TestNobodySlipsIn(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	var accepts, answers atomic.Int64
	proxytest.App(t, front, func(c *net.TCPConn) { accepts.Add(1); proxytest.Echo(c) })
	w := prepareWatcher(t, nativeConfig(), front)
	defer w.close()
	ended := make(chan struct{})
	var clients sync.WaitGroup
	defer clients.Wait()
	defer close(ended)
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					proxytest.OneRequest(t, front.Addr().String(), "ping\n")
					answers.Add(1)
				}
			}
		})
	}
	for range 4 {
		before := answers.Load()
		proxytest.Eventually(t, "clients are answered", func() bool { return answers.Load() > before })
		if !w.shut() {
			t.Fatal(w.log)
		}
		u := w.look()
		inside, before := accepts.Load(), accepts.Load()-int64(u.open)
		awaitSegments() // time enough for who has slipped in
		if u.open == 0 && accepts.Load() != inside {
			t.Fatalf("%d were accepted, then %d", before, accepts.Load())
		}
		w.open()
	}
}

// The idle time runs from the last connection, however short that was.
func TestShortConnection(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	cfg := nativeConfig()
	cfg.IdleTimeout = 8 * time.Second // a busy machine must not stop this test for the rest of it
	began := time.Now()
	w := watchFront(t, cfg, front, nil)
	proxytest.Eventually(t, "the app was looked at", func() bool { return strings.Contains(w.log.String(), "ready") })
	proxytest.Eventually(t, "a part of the idle time is over", func() bool { return time.Since(began) > cfg.IdleTimeout/8 })
	proxytest.OneRequest(t, front.Addr().String(), "ping\n")
	last := time.Now()
	w.wait(t)
	if idle := time.Since(last); idle < cfg.IdleTimeout {
		t.Errorf("gone %s after the last connection, want %s", idle, cfg.IdleTimeout)
	}
}

// systemd gets to know, too, what happens less than a second after it was told
// something, though nobody comes any more.
func TestNativeStatus(t *testing.T) {
	m := proxytest.NewManager(t)
	t.Setenv("NOTIFY_SOCKET", m.Path)
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	watchFront(t, nativeConfig(), front, nil)
	c := proxytest.Connect(t, front.Addr().String())
	for _, want := range []string{"STATUS=1 connection open [open=1 reached=yes]", "STATUS=0 connections open [open=0 reached=yes]"} {
		for got := m.Told(t); got != want; got = m.Told(t) {
			t.Log(got)
		}
		c.Close()
	}
}

// The mode in which the app has its socket survives a proxy that takes it from
// systemd again, and the one that opens the doors.
func TestSocketMode(t *testing.T) {
	for _, mode := range []bool{true, false} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
			front := proxytest.ListenTCP(t, "127.0.0.1:0")
			set := func(mode bool) {
				proxytest.Must(front.SyscallConn())(t).Control(func(fd uintptr) { unix.SetNonblock(int(fd), mode) })
			}
			w := prepareWatcher(t, nativeConfig(), front)
			defer w.close()
			set(mode)
			w.look()
			set(false) // as systemd does
			again := proxytest.Must(newWatcher(nativeConfig(), proxytest.FilesOf(t, front), w.log))(t)
			defer again.close()
			if got := proxytest.Must(again.doors[0].isNonblocking())(t); got != mode {
				t.Errorf("after a restart: non-blocking is %v, was %v", got, mode)
			}
			again.shut()
			set(false)
			if err := Open(w.files(t)); err != nil {
				t.Fatal(err)
			}
			if got := proxytest.Must(again.doors[0].isNonblocking())(t); got != mode {
				t.Errorf("after opening: non-blocking is %v, was %v", got, mode)
			}
			set(!mode)
			again.look()
			set(!mode)
			third := proxytest.Must(newWatcher(nativeConfig(), proxytest.FilesOf(t, front), w.log))(t)
			defer third.close()
			if left, _ := filepath.Glob(os.Getenv("RUNTIME_DIRECTORY") + "/nonblocking-*"); len(left) > 0 == mode {
				t.Errorf("changed to %v, remembered are %q", !mode, left)
			}
		})
	}
}

// An app that never accepts costs its clients the start timeout, not for ever.
func TestNeverAccepts(t *testing.T) {
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	cfg := nativeConfig()
	cfg.StartTimeout = 100 * time.Millisecond
	cfg.IdleTimeout = 100 * time.Millisecond
	c := proxytest.Connect(t, front.Addr().String()) // before, else the idle time may be over
	w := watchFront(t, cfg, front, nil)
	proxytest.ExpectReset(t, c)
	w.wait(t)
	if log := w.log.String(); !strings.Contains(log, "turned away: web.service did not accept in time") || strings.Contains(log, "ready for") {
		t.Errorf("journal:\n%s", log)
	}
}

// Doors that a killed proxy has left shut are opened by the next one, but not
// before whoever stops the container had time to.
func TestForgottenDoor(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	w := prepareWatcher(t, nativeConfig(), front)
	w.shut()
	knocks := knocking(t, proxytest.AddrOf(front).IP)
	w.start = time.Now().Add(proxytest.Patience) // however long that takes
	w.openForgotten()
	if len(knocks) > 0 || proxytest.Waiting(t, front) {
		t.Fatal("opened at once")
	}
	w.start = time.Now().Add(-shutGrace)
	w.run(t)
	proxytest.Ask(t, proxytest.Next(t, knocks), "ping")
}

// Those of a proxy that was restarted are opened at once.
func TestRestartedDoor(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", t.TempDir())
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, front, proxytest.Echo)
	w := prepareWatcher(t, nativeConfig(), front)
	defer w.close()
	w.shut()
	knocks := knocking(t, proxytest.AddrOf(front).IP)
	watchFront(t, nativeConfig(), front, nil)
	proxytest.Ask(t, proxytest.Next(t, knocks), "ping")
}

// The real programs as the units run them, with an app that goes on accepting
// after the proxy's end and then drops all, as a container does that is being
// stopped, and clients that come at about that time.
func TestNativeEdgeByForce(t *testing.T) {
	t.Parallel()
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	var answered atomic.Int64
	cfg := nativeConfig()
	cfg.IdleTimeout = 5 * time.Millisecond
	asked := proxytest.EdgeByForce(t, 8, 8, cfg.IdleTimeout, 60*time.Millisecond, func() bool { return proxytest.Waiting(t, front) }, func() {
		files := proxytest.FilesOf(t, front)
		p := proxytest.Start(t, nil, files, nil, cfg.Args()...)
		setNonblock(t, front) // files are passed in blocking mode, as by systemd
		stopApp := dyingApp(t, files[0], &answered)
		if p.Status(t) != 0 {
			t.Errorf("exit status %d: %s", p.Status(t), p.Log)
		}
		stopApp()
		if p := proxytest.Start(t, nil, files, nil, "--open"); p.Status(t) != 0 {
			t.Errorf("exit status %d: %s", p.Status(t), p.Log)
		}
	}, func() func(string) {
		return func(line string) { proxytest.OneRequest(t, front.Addr().String(), line) }
	})
	if n := int(answered.Load()); n != asked {
		t.Errorf("%d answers for %d requests", n, asked)
	}
}

// dyingApp accepts from its own descriptor of a socket until the function that
// it returns has ended. What it has accepted within the last moment is lost.
func dyingApp(t testing.TB, file *os.File, answered *atomic.Int64) (stop func()) {
	l := proxytest.Must(net.FileListener(file))(t).(*net.TCPListener)
	var dying atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			if dying.Load() {
				proxytest.ResetConn(c)
				continue
			}
			all.Go(func() {
				defer c.Close()
				if n, err := io.Copy(proxytest.OnlyWriter{Writer: c}, c); n > 0 && err == nil {
					answered.Add(1)
				}
			})
		}
	})
	return func() {
		dying.Store(true)
		time.Sleep(20 * time.Millisecond) // how long it takes to die
		l.Close()
		all.Wait()
	}
}
