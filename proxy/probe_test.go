package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/wire"
)

// No client gets to an app that accepts but is not ready, on any port, and
// again none once the container is another.
func TestReadyCheck(t *testing.T) {
	front, second := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	back, other := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	started := filepath.Join(t.TempDir(), "app.pid")
	restart := func() {
		t.Helper()
		os.Remove(started)
		if err := os.WriteFile(started, []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var status, early, asked atomic.Int32
	status.Store(503)
	proxytest.App(t, back, func(c *net.TCPConn) {
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		switch now := status.Load(); {
		case line == "PROXY UNKNOWN\r\n":
			asked.Add(1)
			fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n", now, http.StatusText(int(now)))
		case now != 200:
			early.Add(1)
		default:
			fmt.Fprint(c, "pong\n")
		}
	})
	proxytest.App(t, other, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(back))
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: proxytest.AddrOf(second).ListenKey(), Target: proxytest.AddrOf(other)})
	cfg.ReadyCheck, cfg.Started, cfg.ProxyProtocol = "/ready", []string{started}, 1
	r := serveFiles(t, cfg, proxytest.FilesOf(t, front, second))
	for round := range 2 {
		restart()
		before := asked.Load()
		a, b := proxytest.Connect(t, front.Addr().String()), proxytest.Connect(t, second.Addr().String())
		fmt.Fprint(b, "ping\n")
		proxytest.Eventually(t, "the app is asked again and again", func() bool { return asked.Load() > before+3 })
		if open := r.activity.Out.Load(); round == 0 && open != 0 {
			t.Errorf("%d bytes got through", open)
		}
		status.Store(200)
		if line, err := bufio.NewReader(a).ReadString('\n'); line != "pong\n" {
			t.Errorf("round %d: %q, %v", round, line, err)
		}
		if line, err := bufio.NewReader(b).ReadString('\n'); !strings.HasPrefix(line, "PROXY TCP4 ") {
			t.Errorf("round %d: %q, %v", round, line, err)
		}
		a.Close()
		b.Close()
		status.Store(503)
	}
	if n := early.Load(); n > 0 {
		t.Errorf("%d clients came before the app was ready", n)
	}
}

// replacing is the way to a container that is another one by the time that it
// has been dialled.
type replacing struct {
	reach.Source
	replace func()
}

func (r replacing) Verify(int, wire.Address) error {
	r.replace()
	return nil
}

func TestReplacedWhileDialled(t *testing.T) {
	l := proxytest.ListenTCP(t, "127.0.0.1:0")
	started := filepath.Join(t.TempDir(), "app.pid")
	replace := func() {
		if err := errors.Join(os.WriteFile(started+"-new", nil, 0o600), os.Rename(started+"-new", started)); err != nil {
			t.Fatal(err)
		}
	}
	replace()
	p := foundReady(t, started)
	target := newTarget(proxytest.AddrOf(l), false, replacing{reach.New(wire.Config{}, nil, nil), replace}, func(error) {})
	target.probe = p
	if _, err := target.dial(netip.AddrPort{}); !errors.Is(err, reach.ErrNotReady) {
		t.Errorf("got %v, want: %v", err, reach.ErrNotReady)
	}
}

// foundReady is the check of an app whose container was found ready.
func foundReady(t *testing.T, started string) *probe {
	t.Helper()
	p := newProbe("/", []string{started})
	now := proxytest.Must(p.container())(t)
	p.ready.Store(&now)
	return p
}

// Dials at once to an app that was found ready are not told that it is not.
func TestReadyForAllAtOnce(t *testing.T) {
	back := proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, back, func(c *net.TCPConn) { c.Close() })
	started := filepath.Join(t.TempDir(), "app.pid")
	proxytest.Must(0, os.WriteFile(started, nil, 0o600))(t)
	target := newTarget(proxytest.AddrOf(back), false, reach.New(wire.Config{}, nil, nil), func(error) {})
	target.probe = foundReady(t, started)
	var refused atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if backend, err := target.dial(netip.AddrPort{}); err == nil {
					backend.Reset()
				} else if errors.Is(err, reach.ErrNotReady) { // a full backlog is none of it
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d of 4000 dials to a ready app were told that it is not", n)
	}
}

func TestJudge(t *testing.T) {
	p := &probe{path: "/x"}
	for line, want := range map[string]string{
		"HTTP/1.1 200 OK": "", "HTTP/1.0 302": "", "HTTP/1.1 299 ": "",
		"HTTP/1.1 503 Service Unavailable": "the app is not ready",
		"HTTP/1.1 404 Not Found":           "GET /x: \"HTTP/1.1 404 Not Found\"",
		"HTTP/1.1 100 Continue":            "GET /x:", "HTTP/2 200": "no answer of HTTP/1.1", "": "no answer", "HTTP/1.1 20": "no answer",
		"SSH-2.0-OpenSSH_10.0\x1b[2J": `no answer of HTTP/1.1: "SSH-2.0-OpenSSH_10.0\x1b[2J"`,
	} {
		err := p.judge(line)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}
