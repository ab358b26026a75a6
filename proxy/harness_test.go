package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// patience bounds every wait of the tests. Nothing is timed by it.
const patience = 20 * time.Second

// The environment of a test binary that is started as something else.
const (
	envBinary = "ZEROLET_TEST_BINARY" // the real zerolet-proxy, for the tests
	envApp    = "ZEROLET_TEST_APP"    // be an app inside a namespace, listening here
	envListen = "ZEROLET_TEST_LISTEN" // have this descriptor listen, and exit
)

// TestMain builds the real program, and lets the test binary be the helper and
// the app inside a namespace.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == HelperArg {
		os.Exit(RunHelper())
	}
	if addr := os.Getenv(envApp); addr != "" {
		os.Exit(namespaceApp(addr))
	}
	if fd, err := strconv.Atoi(os.Getenv(envListen)); err == nil {
		if err := unix.Listen(fd, 1); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "zerolet-proxy-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755) // tests run it as another user
	binary := filepath.Join(dir, "zerolet-proxy")
	build := exec.Command("go", "build", "-o", binary, "../cmd/zerolet-proxy")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", build, err, out)
		return 1
	}
	os.Setenv(envBinary, binary)
	return m.Run()
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// text is a writer that can be read meanwhile.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *text) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// listenTCP opens a listening socket as systemd would, not one for MPTCP, and
// keeps it.
func listenTCP(t testing.TB, addr string) *net.TCPListener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l := must(c.Listen(t.Context(), "tcp", addr))(t).(*net.TCPListener)
	t.Cleanup(func() { l.Close() })
	return l
}

func addrOf(l net.Listener) wire.Address {
	if a, ok := l.Addr().(*net.UnixAddr); ok {
		return wire.Address{Network: wire.Unix, Path: a.Name}
	}
	return wire.TCPAddress(l.Addr().(*net.TCPAddr).AddrPort())
}

// freeAddr is an address where nobody listens yet.
func freeAddr(t testing.TB) wire.Address {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	return addrOf(l)
}

// config is a configuration with times that do not matter.
func config(front net.Listener, app wire.Address) wire.Config {
	return wire.Config{
		Container: "web.service", IdleTimeout: wire.Infinity, StartTimeout: time.Minute, DrainTimeout: time.Minute,
		ConnectionIdleTimeout: wire.Infinity,
		Forwards:              []wire.Forward{{Listen: addrOf(front).ListenKey(), Target: app}},
	}
}

// running is a server inside the test process.
type running struct {
	*server
	stop chan os.Signal
	done chan struct{}
	log  *text
	addr string
}

// serve runs a server on front. tweak, if not nil, may change it first. The
// test's end stops it at once.
func serve(t testing.TB, cfg wire.Config, front *net.TCPListener, tweak func(*server)) *running {
	t.Helper()
	r := prepareServer(t, cfg, filesOf(t, front))
	if tweak != nil {
		tweak(r.server)
	}
	r.run(t)
	return r
}

// serveFiles is serve for several sockets.
func serveFiles(t testing.TB, cfg wire.Config, files []*os.File) *running {
	t.Helper()
	r := prepareServer(t, cfg, files)
	r.run(t)
	return r
}

func prepareServer(t testing.TB, cfg wire.Config, files []*os.File) *running {
	t.Helper()
	r := &running{stop: make(chan os.Signal, 2), done: make(chan struct{}), log: new(text)}
	r.server = must(newServer(cfg, files, r.log))(t)
	own := ownCgroup(t)
	r.cgroup.dir, r.cgroup.err = own.dir, own.err
	r.addr = cfg.Forwards[0].Listen.String()
	return r
}

func (r *running) run(t testing.TB) {
	go func() {
		defer close(r.done)
		r.serve(r.stop)
	}()
	t.Cleanup(func() {
		r.cutOff()
		select {
		case r.stop <- syscall.SIGTERM:
		default:
		}
		r.wait(t)
	})
}

// wait waits until the server has ended.
func (r *running) wait(t testing.TB) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("the server does not end: %s; %s", r.status(), r.log)
	}
}

// waitHeld waits until n clients are held and the app was asked in vain.
func (r *running) waitHeld(t testing.TB, n int64) {
	t.Helper()
	eventually(t, "clients are held", func() bool { return r.activity.open.Load() == n })
	r.waitHeldOn(t, r.cfg.Forwards[0].Target)
}

// waitHeldOn waits until the app at addr was asked in vain.
func (r *running) waitHeldOn(t testing.TB, addr wire.Address) {
	t.Helper()
	eventually(t, "the app is asked", func() bool {
		for _, target := range r.targets {
			if target.addr == addr && target.why() != nil {
				return true
			}
		}
		return false
	})
}

// connect opens a connection that fails when the test takes too long.
func connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	return connectWith(t, addr, nil)
}

// connectSmall is connect with a small receive buffer, so that what is not
// read stays at the sender.
func connectSmall(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	return connectWith(t, addr, func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	})
}

func connectWith(t testing.TB, addr string, control func(_, _ string, c syscall.RawConn) error) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: patience, Control: control}
	c := must(d.DialContext(context.Background(), "tcp", addr))(t).(*net.TCPConn)
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// app accepts on l and runs serve for each connection. The test's end closes
// them all.
func app(t testing.TB, l net.Listener, serve func(*net.TCPConn)) {
	t.Helper()
	var all sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			all.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		end()
		l.Close()
		all.Wait()
	})
}

// accepted passes each connection of an app to the test.
func accepted(t testing.TB, l net.Listener) <-chan *net.TCPConn {
	t.Helper()
	conns := make(chan *net.TCPConn, 100)
	app(t, l, func(c *net.TCPConn) {
		file, err := c.File() // the app closes c
		if err != nil {
			return
		}
		defer file.Close()
		dup, err := net.FileConn(file)
		if err != nil {
			return
		}
		dup.SetDeadline(time.Now().Add(patience))
		conns <- dup.(*net.TCPConn)
	})
	t.Cleanup(func() {
		for len(conns) > 0 {
			(<-conns).Close()
		}
	})
	return conns
}

func next(t testing.TB, conns <-chan *net.TCPConn) *net.TCPConn {
	t.Helper()
	select {
	case c := <-conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("the app got no connection")
		return nil
	}
}

// echo answers until the client has no more to say.
func echo(c *net.TCPConn) { io.Copy(onlyWriter{c}, c) }

type onlyWriter struct{ io.Writer }

// ask sends a line and reads it back.
func ask(t testing.TB, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	expect(t, c, line)
}

func expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q (%d bytes), %v, want %q", got[:min(n, 99)], n, err, want[:min(len(want), 99)])
	}
}

// expectEnd reads to the end, which must be in order and without more bytes.
func expectEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("got %d bytes and %v, want the end", len(rest), err)
	}
}

func expectReset(t testing.TB, c io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
		t.Fatalf("got %d bytes and %v, want a reset", len(rest), err)
	}
}

func resetConn(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// waitSent waits until the peer's kernel has everything that was written.
func waitSent(t testing.TB, c *net.TCPConn) {
	t.Helper()
	raw := must(c.SyscallConn())(t)
	eventually(t, "all is sent", func() bool {
		left := -1
		raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		return left == 0
	})
}

// process is the real program.
type process struct {
	*exec.Cmd
	log    *text
	exited chan struct{}
}

// start runs zerolet-proxy on the listeners, which the test keeps, as systemd
// would: LISTEN_PID is the pid of the program itself. wrap is a command line
// to run it with.
func start(t testing.TB, wrap []string, files []*os.File, env []string, args ...string) *process {
	t.Helper()
	shell := []string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}
	line := append(append(append([]string{}, shell...), wrap...), os.Getenv(envBinary))
	p := &process{Cmd: exec.Command(line[0], append(line[1:], args...)...), log: new(text), exited: make(chan struct{})}
	p.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	p.Env = append(p.Env, env...)
	p.ExtraFiles = files
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		p.Wait()
	}()
	t.Cleanup(func() {
		p.Process.Kill()
		<-p.exited
	})
	return p
}

// status waits for the end of the process.
func (p *process) status(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("the process does not end: %s", p.log)
		return -1
	}
}

// edgeByForce has clients ask again and again, each at random moments around
// the idle time, while run is called whenever somebody waits, as systemd would: it
// returns when the program has ended. That goes on until run was called so many
// times. Each client asks by a function of its own. The result is how often they
// have asked.
func edgeByForce(t *testing.T, clients int, starts int64, idle, spread time.Duration, waits func() bool, run func(), client func() func(text string)) int {
	t.Helper()
	var manager, all sync.WaitGroup
	var started, asked atomic.Int64
	ended, end := make(chan struct{}), time.Now().Add(3*patience)
	manager.Go(func() {
		for {
			select {
			case <-ended:
				return
			default:
			}
			if !waits() {
				time.Sleep(100 * time.Microsecond)
				continue
			}
			started.Add(1)
			run()
		}
	})
	for i := range clients {
		ask := client()
		all.Go(func() {
			for round := 0; started.Load() < starts && !t.Failed() && time.Now().Before(end); round++ {
				ask(fmt.Sprintf("%d.%d\n", i, round))
				asked.Add(1)
				time.Sleep(idle*4/5 + rand.N(spread)) // the load, not a wait
			}
		})
	}
	all.Wait()
	close(ended)
	manager.Wait()
	t.Logf("%d starts for %d times", started.Load(), asked.Load())
	if started.Load() < starts {
		t.Errorf("%d starts, want %d", started.Load(), starts)
	}
	return int(asked.Load())
}

func filesOf[L interface{ File() (*os.File, error) }](t testing.TB, ls ...L) []*os.File {
	t.Helper()
	var files []*os.File
	for _, l := range ls {
		f := must(l.File())(t)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

func lines(s string) int { return strings.Count(s, "\n") }

func parseAddress(t testing.TB, s string) wire.Address {
	t.Helper()
	return must(wire.ParseAddress(s))(t)
}
