// Package proxytest is what the tests of the proxy's packages share: the real
// program as systemd starts it, clients, apps, and waits for conditions. No
// program imports it, and it knows nothing of how the proxy works.
package proxytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
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

// Patience bounds every wait of the tests. Nothing is timed by it.
const Patience = time.Minute

// Binary is the environment variable with the path of the real zerolet-proxy.
const Binary = "ZEROLET_TEST_BINARY"

// Main builds the real program and runs the tests.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "zerolet-proxy-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755) // tests run it as another user
	binary := filepath.Join(dir, "zerolet-proxy")
	build := exec.Command("go", "build", "-o", binary, "github.com/zerolet/zerolet/cmd/zerolet-proxy")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", build, err, out)
		return 1
	}
	os.Setenv(Binary, binary)
	return m.Run()
}

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
	}
}

// Must is the value, if there is no error.
func Must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Log is a writer that can be read meanwhile.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write is of io.Writer.
func (w *Log) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

// String is what was written.
func (w *Log) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// ListenTCP opens a listening socket as systemd would, not one for MPTCP, and
// keeps it.
func ListenTCP(t testing.TB, addr string) *net.TCPListener {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	l := Must(c.Listen(t.Context(), "tcp", addr))(t).(*net.TCPListener)
	t.Cleanup(func() { l.Close() })
	return l
}

// AddrOf is where a listener listens.
func AddrOf(l net.Listener) wire.Address {
	if a, ok := l.Addr().(*net.UnixAddr); ok {
		return wire.Address{Network: wire.Unix, Path: a.Name}
	}
	return wire.TCPAddress(l.Addr().(*net.TCPAddr).AddrPort())
}

// FreeAddr is an address where nobody listens yet, and nobody else than the test is going to: a socket that is bound and
// does not listen keeps the port from who takes any, and not from who asks for it with SO_REUSEADDR (socket(7)), as Go does.
func FreeAddr(t testing.TB) wire.Address {
	t.Helper()
	fd := Must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))(t)
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})); err != nil {
		t.Fatal(err)
	}
	bound := Must(unix.Getsockname(fd))(t).(*unix.SockaddrInet4)
	return wire.TCPAddress(netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)))
}

// Config is a configuration with times that do not matter.
func Config(front net.Listener, app wire.Address) wire.Config {
	return wire.Config{
		Container: "web.service", IdleTimeout: wire.Infinity, StartTimeout: time.Minute, DrainTimeout: time.Minute,
		ConnectionIdleTimeout: wire.Infinity,
		Forwards:              []wire.Forward{{Listen: AddrOf(front).ListenKey(), Target: app}},
	}
}

// Connect opens a connection that fails when the test takes too long.
func Connect(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	return connectWith(t, addr, nil)
}

// ConnectSmall is connect with a small receive buffer, so that what is not
// read stays at the sender.
func ConnectSmall(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	return connectWith(t, addr, func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	})
}

func connectWith(t testing.TB, addr string, control func(_, _ string, c syscall.RawConn) error) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: Patience, Control: control}
	c := Must(d.DialContext(context.Background(), "tcp", addr))(t).(*net.TCPConn)
	c.SetDeadline(time.Now().Add(Patience))
	t.Cleanup(func() { c.Close() })
	return c
}

// App accepts on l and runs serve for each connection. The test's end closes
// them all.
func App(t testing.TB, l net.Listener, serve func(*net.TCPConn)) {
	t.Helper()
	var all sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(Patience))
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

// Accepted passes each connection of an app to the test.
func Accepted(t testing.TB, l net.Listener) <-chan *net.TCPConn {
	t.Helper()
	conns := make(chan *net.TCPConn, 100)
	App(t, l, func(c *net.TCPConn) {
		file, err := c.File() // the app closes c
		if err != nil {
			return
		}
		defer file.Close()
		dup, err := net.FileConn(file)
		if err != nil {
			return
		}
		dup.SetDeadline(time.Now().Add(Patience))
		conns <- dup.(*net.TCPConn)
	})
	t.Cleanup(func() {
		for len(conns) > 0 {
			(<-conns).Close()
		}
	})
	return conns
}

// Next is the next of the connections.
func Next(t testing.TB, conns <-chan *net.TCPConn) *net.TCPConn {
	t.Helper()
	select {
	case c := <-conns:
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(Patience):
		t.Fatal("the app got no connection")
		return nil
	}
}

// Echo answers until the client has no more to say.
func Echo(c *net.TCPConn) { io.Copy(OnlyWriter{Writer: c}, c) }

// OnlyWriter hides what else a connection can do: io.Copy would splice.
type OnlyWriter struct{ io.Writer }

// Ask sends a line and reads it back.
func Ask(t testing.TB, c net.Conn, line string) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	Expect(t, c, line)
}

// Expect reads what is wanted.
func Expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q (%d bytes), %v, want %q", got[:min(n, 99)], n, err, want[:min(len(want), 99)])
	}
}

// ExpectEnd reads to the end, which must be in order and without more bytes.
func ExpectEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("got %d bytes and %v, want the end", len(rest), err)
	}
}

// ExpectReset reads the reset.
func ExpectReset(t testing.TB, c io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || len(rest) > 0 {
		t.Fatalf("got %d bytes and %v, want a reset", len(rest), err)
	}
}

// ResetConn closes with a reset.
func ResetConn(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// WaitSent waits until the peer's kernel has everything that was written.
func WaitSent(t testing.TB, c *net.TCPConn) {
	t.Helper()
	raw := Must(c.SyscallConn())(t)
	Eventually(t, "all is sent", func() bool {
		left := -1
		raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		return left == 0
	})
}

// Process is the real program.
type Process struct {
	*exec.Cmd
	Log    *Log
	exited chan struct{}
}

// Start runs zerolet-proxy on the listeners, which the test keeps, as systemd
// would: LISTEN_PID is the pid of the program itself. wrap is a command line
// to run it with.
func Start(t testing.TB, wrap []string, files []*os.File, env []string, args ...string) *Process {
	t.Helper()
	shell := []string{"sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`}
	line := append(append(append([]string{}, shell...), wrap...), os.Getenv(Binary))
	p := &Process{Cmd: exec.Command(line[0], append(line[1:], args...)...), Log: new(Log), exited: make(chan struct{})}
	p.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	p.Env = append(p.Env, env...)
	p.ExtraFiles = files
	p.Stderr = p.Log
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

// Status waits for the end of the process.
func (p *Process) Status(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.ProcessState.ExitCode()
	case <-time.After(Patience):
		t.Fatalf("the process does not end: %s", p.Log)
		return -1
	}
}

// EdgeByForce has clients ask again and again, each at random moments around
// the idle time, while run is called whenever somebody waits, as systemd would: it
// returns when the program has ended. That goes on until run was called so many
// times. Each client asks by a function of its own. The result is how often they
// have asked.
func EdgeByForce(t *testing.T, clients int, starts int64, idle, spread time.Duration, waits func() bool, run func(), client func() func(text string)) int {
	t.Helper()
	var manager, all sync.WaitGroup
	var started, asked atomic.Int64
	ended, end := make(chan struct{}), time.Now().Add(3*Patience)
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

// FilesOf are the sockets as systemd passes them.
func FilesOf[L interface{ File() (*os.File, error) }](t testing.TB, ls ...L) []*os.File {
	t.Helper()
	var files []*os.File
	for _, l := range ls {
		f := Must(l.File())(t)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

// Itoa is a port as text.
func Itoa(n uint16) string { return strconv.Itoa(int(n)) }

// Lines is how many there are.
func Lines(s string) int { return strings.Count(s, "\n") }

// ParseAddress is [wire.ParseAddress] for what is right.
func ParseAddress(t testing.TB, s string) wire.Address {
	t.Helper()
	return Must(wire.ParseAddress(s))(t)
}

// FullBacklog is a listener that takes no more connections until it accepts.
func FullBacklog(t *testing.T) (l *net.TCPListener, full []net.Conn) {
	l = ListenTCP(t, "127.0.0.1:0")
	raw := Must(l.SyscallConn())(t)
	raw.Control(func(fd uintptr) { syscall.Listen(int(fd), 0) }) // may be called again to change it
	for {
		var info *unix.TCPInfo // of one that listens: the backlog and its bound (tcp_get_info() in the kernel's tcp.c)
		Eventually(t, "who has connected is in the backlog", func() bool {
			raw.Control(func(fd uintptr) { info = Must(unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO))(t) })
			return int(info.Unacked) == len(full)
		})
		if info.Unacked > info.Sacked {
			return l, full
		}
		full = append(full, Must(net.DialTimeout("tcp", l.Addr().String(), Patience))(t))
	}
}
