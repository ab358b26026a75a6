package proxy

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// The exit status tells what kind of failure it was.
func TestExitStatus(t *testing.T) {
	front, other := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	cfg := proxytest.Config(front, proxytest.AddrOf(other))
	cfg.IdleTimeout = time.Millisecond
	gram := proxytest.Must(proxytest.Must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"}))(t).File())(t)
	defer gram.Close()
	for name, test := range map[string]struct {
		files  []*os.File
		args   []string
		status int
		says   string
	}{
		"idle":            {proxytest.FilesOf(t, front), cfg.Args(), 0, "idle for 1ms"},
		"usage":           {nil, []string{"--frobnicate"}, 64, "hint: --help"},
		"no socket":       {nil, cfg.Args(), 78, "no socket was passed"},
		"unknown socket":  {proxytest.FilesOf(t, front, other), cfg.Args(), 78, "no --forward= for " + proxytest.AddrOf(other).String()},
		"wrong socket":    {[]*os.File{gram}, cfg.Args(), 78, "passed socket app-proxy.socket: neither a listening stream socket nor one for UDP"},
		"missing socket":  {proxytest.FilesOf(t, front), append(cfg.Args(), "--forward=[::]:9=127.0.0.1:9"), 0, "no socket was passed for [::]:9"},
		"IPv4 wildcard":   {proxytest.FilesOf(t, wildcard(t, "tcp4")), cfg.Args()[:4], 64, "--forward= is missing"},
		"two of one port": {proxytest.FilesOf(t, front, front), cfg.Args(), 0, "idle for 1ms"},
	} {
		t.Run(name, func(t *testing.T) {
			p := proxytest.Start(t, nil, test.files, []string{"LISTEN_FDNAMES=app-proxy.socket"}, test.args...)
			if status := p.Status(t); status != test.status || !strings.Contains(p.Log.String(), test.says) {
				t.Errorf("exit status %d: %s", status, p.Log)
			}
		})
	}
	out, err := exec.Command(os.Getenv(proxytest.Binary), "--help").Output()
	if err != nil || string(out) != wire.Usage {
		t.Errorf("--help: %v: %s", err, out)
	}
}

func wildcard(t testing.TB, network string) *net.TCPListener {
	t.Helper()
	l := proxytest.Must(net.Listen(network, ":0"))(t).(*net.TCPListener)
	t.Cleanup(func() { l.Close() })
	return l
}

// A forward for [::] takes the sockets that systemd opens for an address-less
// ListenStream=, whatever the family, and several of them.
func TestWildcards(t *testing.T) {
	l := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	four := wildcard(t, "tcp4")
	lc := net.ListenConfig{}
	six := proxytest.Must(lc.Listen(context.Background(), "tcp6", strings.Replace(four.Addr().String(), "0.0.0.0", "[::]", 1)))(t).(*net.TCPListener)
	defer six.Close()
	serveFiles(t, proxytest.Config(six, proxytest.AddrOf(l)), proxytest.FilesOf(t, four, six))
	port := six.Addr().(*net.TCPAddr).AddrPort().Port()
	for _, host := range []string{"127.0.0.1", "::1"} {
		proxytest.Ask(t, proxytest.Connect(t, net.JoinHostPort(host, proxytest.Itoa(port))), "ping")
	}
}

// What systemd is told: ready when it accepts, status as it changes, and the
// end. Nothing else comes.
func TestNotify(t *testing.T) {
	m := proxytest.NewManager(t)
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = time.Hour
	p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), m.Env(), cfg.Args()...)
	got := m.Told(t)
	if !strings.HasPrefix(got, "READY=1\nSTATUS=0 connections open, 0 accepted, 0 B in, 0 B out [open=0 reached=no ends=") {
		t.Errorf("got %q", got)
	}
	if left := time.Until(wire.ParseStatus(got).Ends); left > cfg.IdleTimeout || left < cfg.IdleTimeout-proxytest.Patience {
		t.Errorf("ends in %s: %q", left, got)
	}
	c := proxytest.Connect(t, front.Addr().String())
	proxytest.Ask(t, c, strings.Repeat("x", 1200))
	// The moment in which the app is reached is told at once, the bytes with the next tick.
	const want = "STATUS=1 connection open, 1 accepted, 1.2 kB in, 1.2 kB out [open=1 reached=yes]"
	for got = m.Told(t); got != want; got = m.Told(t) {
		if !strings.HasPrefix(got, "STATUS=1 connection open, 1 accepted, ") {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	p.Process.Signal(os.Interrupt)
	if got := m.Told(t); got != "STOPPING=1" {
		t.Errorf("got %q", got)
	}
}

// Where stderr is the journal's, the records go there natively, with fields.
// The program gets a mount namespace of its own to have a journal.
func TestJournal(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a journal's socket")
	}
	dir := t.TempDir()
	journald := proxytest.Must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unixgram"}))(t)
	defer journald.Close()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 50 * time.Millisecond
	cfg.Container = "web.service"
	wrap := []string{
		"unshare", "--mount", "sh", "-c",
		`mount -t tmpfs none /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal &&
		export JOURNAL_STREAM=$(stat --dereference --format=%d:%i /proc/self/fd/2) && exec "$@"`, dir,
	}
	c := proxytest.Connect(t, front.Addr().String()) // before, else the idle time may be over
	p := proxytest.Start(t, wrap, proxytest.FilesOf(t, front), nil, cfg.Args()...)
	proxytest.Ask(t, c, "ping")
	c.Close()
	told := func() map[string]string {
		buf := make([]byte, 4096)
		journald.SetReadDeadline(time.Now().Add(proxytest.Patience))
		n, err := journald.Read(buf)
		if err != nil {
			t.Fatalf("%v: %s", err, p.Log)
		}
		fields := make(map[string]string)
		for line := range strings.Lines(string(buf[:n])) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			fields[name] = value
		}
		return fields
	}
	wake := told()
	if wake["ZEROLET_EVENT"] != "wake" || wake["MESSAGE_ID"] != wire.WakeMessage || wake["ZEROLET_CONTAINER"] != "web.service" ||
		wake["ZEROLET_PEER"] != c.LocalAddr().String() || wake["ZEROLET_READY_USEC"] == "" {
		t.Errorf("wake record: %v", wake)
	}
	sleep := told()
	if sleep["ZEROLET_EVENT"] != "sleep" || sleep["MESSAGE_ID"] != wire.SleepMessage || sleep["ZEROLET_CONNECTIONS"] != "1" ||
		sleep["ZEROLET_BYTES_IN"] != "4" || sleep["ZEROLET_BYTES_OUT"] != "4" || sleep["PRIORITY"] != "6" {
		t.Errorf("sleep record: %v", sleep)
	}
	if p.Status(t) != 0 || p.Log.String() != "" {
		t.Errorf("on stderr too: %s", p.Log)
	}
}
