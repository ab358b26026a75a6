package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// waker is one that systemd would start, and counts how often it is asked.
func newWaker(t testing.TB) (path string, asked *atomic.Int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "waker")
	l := proxytest.Must(net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"}))(t)
	t.Cleanup(func() { l.Close() })
	asked = new(atomic.Int64)
	go func() {
		for {
			file, err := l.File()
			if err != nil {
				return
			}
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(file.Fd()), Events: unix.POLLIN}}, -1); err != nil {
				file.Close()
				continue
			}
			asked.Add(1)
			if Wakened([]*os.File{file}) != nil {
				return
			}
		}
	}()
	return path, asked
}

// heard serves an app of HTTP behind a proxy that hears its clients.
func heard(t *testing.T, change func(*wire.Config)) (r *running, app, asked *atomic.Int64) {
	t.Helper()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	app = new(atomic.Int64)
	serves := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		app.Add(1)
		body, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%s %s %s", q.Method, q.URL.Path, body)
	})}
	go serves.Serve(l)
	t.Cleanup(func() { serves.Close() })
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	path, asked := newWaker(t)
	cfg.Start, cfg.Probes, cfg.IgnoreAgents = path, []string{"/up"}, []string{"*robot*"}
	change(&cfg)
	return serve(t, cfg, front, func(s *server) { s.porter.noticed.Store(true) }), app, asked // the cgroup is the test's
}

func ask(t *testing.T, c net.Conn, read *bufio.Reader, text string) (by, body string) {
	t.Helper()
	proxytest.Must(io.WriteString(c, text))(t)
	q := proxytest.Must(http.ReadResponse(read, nil))(t)
	defer q.Body.Close()
	return q.Header.Get("Zerolet-State"), string(proxytest.Must(io.ReadAll(q.Body))(t))
}

const up = "GET /up HTTP/1.1\r\nHost: a\r\n\r\n"

// Probes have nothing started and count for nothing, before and after; what is none
// begins with its first byte for the app, and whatever follows is as it came.
func TestProbes(t *testing.T) {
	r, app, asked := heard(t, func(*wire.Config) {})
	c := proxytest.Connect(t, r.addr)
	read := bufio.NewReader(c)
	for range 3 {
		if by, _ := ask(t, c, read, up); by != "asleep" {
			t.Errorf("answered by %q", by)
		}
	}
	if r.activity.busy() || asked.Load()+app.Load() > 0 {
		t.Errorf("a probe is a use: %s", r.status())
	}
	post := "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	proxytest.Must(io.WriteString(c, up+post))(t)
	if by, _ := ask(t, c, read, ""); by != "asleep" {
		t.Errorf("answered by %q", by)
	}
	if by, body := ask(t, c, read, ""); by != "" || body != "POST /x abc" {
		t.Errorf("the app has %q, by %q", body, by)
	}
	if !r.activity.busy() || asked.Load() != 1 {
		t.Errorf("a client is no use: %s; started %d times", r.status(), asked.Load())
	}
	c.Close()
	proxytest.Eventually(t, "the client is counted out", func() bool { return !r.activity.busy() })

	c = proxytest.Connect(t, r.addr)
	read = bufio.NewReader(c)
	robot := strings.Replace(up, "/up", "/y", 1)
	robot = strings.Replace(robot, "Host", "User-Agent: A RoBot/1\r\nHost", 1)
	for range 3 {
		if by, body := ask(t, c, read, robot); by != "" || body != "GET /y " {
			t.Errorf("awake: %q by %q", body, by)
		}
	}
	if r.activity.busy() {
		t.Errorf("a probe is a use: %s", r.status())
	}
	proxytest.Must(io.WriteString(c, up+up+post+post))(t)
	for _, want := range []string{"GET /up ", "GET /up ", "POST /x abc", "POST /x abc"} {
		if _, body := ask(t, c, read, ""); body != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	if !r.activity.busy() {
		t.Errorf("the client behind probes is no use: %s", r.status())
	}
	c.Close()
	proxytest.Eventually(t, "all are counted out", func() bool { return r.activity.open.Load()+r.activity.apart.Load()+r.porter.deciding.Load() == 0 })
}

// Who says nothing is no use and is closed for who waits; who says a part of a
// request is heard to its end.
func TestSilentClients(t *testing.T) {
	r, app, asked := heard(t, func(c *wire.Config) { c.ByData, c.MaxConnections = true, 2 })
	silent := []net.Conn{proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)}
	proxytest.Eventually(t, "they are accepted", func() bool { return r.activity.apart.Load() == 2 })
	if r.activity.busy() {
		t.Errorf("silence is a use: %s", r.status())
	}
	c := proxytest.Connect(t, r.addr)
	read := bufio.NewReader(c)
	for _, piece := range strings.SplitAfter(up, "\n") {
		proxytest.Must(io.WriteString(c, piece))(t)
	}
	if by, body := ask(t, c, read, ""); by != "asleep" {
		t.Errorf("answered by %q: %s; %s", by, body, r.log)
	}
	if n, err := silent[0].Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("the eldest: %d, %v", n, err)
	}
	if by, body := ask(t, c, read, "x\r\n\r\n"); by != "" || !strings.Contains(body, "400") {
		t.Errorf("garbage: %q by %q", body, by)
	}
	if app.Load() != 0 || asked.Load() != 1 {
		t.Errorf("the app has had %d requests, and was started %d times", app.Load(), asked.Load())
	}
}

// While the app is there, a client is heard by the loop that carries it, and from
// there on like any other if it says nothing at once.
func TestFirstWord(t *testing.T) {
	r, app, _ := heard(t, func(c *wire.Config) { c.ByData = true })
	post := "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	first := proxytest.Connect(t, r.addr)
	ask(t, first, bufio.NewReader(first), post)
	late, leaves := proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)
	leaves.Close()
	for range 100 {
		c := proxytest.Connect(t, r.addr)
		read := bufio.NewReader(c)
		for _, text := range []string{up, post, up} {
			ask(t, c, read, text)
		}
		c.Close()
	}
	silent := func() (n int) {
		r.porter.mu.Lock()
		defer r.porter.mu.Unlock()
		return r.porter.silent.Len()
	}
	proxytest.Eventually(t, "the late one is silent", func() bool { return silent() == 1 })
	if by, body := ask(t, late, bufio.NewReader(late), post); by != "" || body != "POST /x " || app.Load() != 302 {
		t.Errorf("%q by %q, %d requests", body, by, app.Load())
	}
	first.Close()
	late.Close()
	proxytest.Eventually(t, "all are counted out", func() bool { return r.activity.open.Load()+r.activity.apart.Load()+r.porter.deciding.Load() == 0 })
	for range 100 { // at the end some are in a loop, some in none
		proxytest.Connect(t, r.addr)
	}
	r.cutOff()
}

// Without WakeBy=data a connection wakes, whether it stays or not.
func TestWordless(t *testing.T) {
	for name, say := range map[string]func(*net.TCPConn){"leaves": func(c *net.TCPConn) { c.Close() }, "stays": func(*net.TCPConn) {}, "resets": proxytest.ResetConn} {
		t.Run(name, func(t *testing.T) {
			r, _, asked := heard(t, func(*wire.Config) {})
			say(proxytest.Connect(t, r.addr))
			proxytest.Eventually(t, "it is started", func() bool { return asked.Load() == 1 })
		})
	}
}

// The proxy ends while there are silent clients, and for none whose first bytes are
// there, or come soon.
func TestIdleWithSilentClients(t *testing.T) {
	var late net.Conn
	var r *running
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.ByData, cfg.IdleTimeout = true, time.Millisecond
	cfg.Start, _ = newWaker(t)
	first := true
	r = serve(t, cfg, front, func(s *server) {
		s.porter.noticed.Store(true)
		s.beforePause = func() {
			if first {
				first = false
				late = proxytest.Connect(t, cfg.Forwards[0].Listen.String())
				for s.activity.apart.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		s.afterPause = func() {
			if s.activity.apart.Load() > 0 && s.activity.open.Load() == 1 && late != nil {
				_, _ = io.WriteString(late, "ping")
			}
		}
	})
	proxytest.Eventually(t, "somebody was let in", func() bool { return r.activity.isReached() })
	late.SetDeadline(time.Now().Add(proxytest.Patience))
	b := make([]byte, 4)
	if _, err := io.ReadFull(late, b); err != nil || string(b) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
	silent := proxytest.Connect(t, r.addr)
	proxytest.Eventually(t, "the silent one is accepted", func() bool { return r.activity.apart.Load() == 1 })
	late.Close()
	r.wait(t)
	if n, err := silent.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		t.Errorf("the silent client: %d, %v", n, err)
	}
}

// Who says a part of a request, or nothing, at the end of the idle time keeps nobody
// out.
func TestIdleKeepsNobodyOut(t *testing.T) {
	for name, says := range map[string]string{"part": "GET /u", "silence": ""} {
		t.Run(name, func(t *testing.T) {
			front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
			proxytest.App(t, l, proxytest.Echo)
			cfg := proxytest.Config(front, proxytest.AddrOf(l))
			cfg.ByData, cfg.Probes, cfg.IdleTimeout = true, []string{"/up"}, time.Millisecond
			cfg.Start, _ = newWaker(t)
			var client net.Conn
			connect := func() net.Conn { return proxytest.Connect(t, front.Addr().String()) }
			r := serve(t, cfg, front, func(s *server) {
				s.porter.noticed.Store(true)
				s.porter.patience = time.Hour
				s.beforePause = sync.OnceFunc(func() {
					slow := connect()
					_, _ = io.WriteString(slow, says)
					for s.activity.apart.Load() == 0 || says != "" && s.porter.deciding.Load() == 0 {
						time.Sleep(time.Millisecond)
					}
				})
				s.afterPause = sync.OnceFunc(func() {
					client = connect()
					_, _ = io.WriteString(client, "ping")
				})
			})
			proxytest.Eventually(t, "the client is let in", r.activity.isReached)
			proxytest.Expect(t, client, "ping")
			if says != "" && r.porter.deciding.Load() == 0 {
				t.Error("the other one is decided")
			}
		})
	}
}

// A browser gets a page while the app is not there, and all others wait; then it gets
// the app.
func TestWaitingPage(t *testing.T) {
	front, at := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.FreeAddr(t)
	cfg := proxytest.Config(front, at)
	cfg.Start, _ = newWaker(t)
	cfg.WaitingPage, cfg.WakeTimes, cfg.IdleTimeout = true, filepath.Join(t.TempDir(), "times"), time.Millisecond
	cfg.WakeResult = t.TempDir()
	r := serve(t, cfg, front, func(s *server) {
		s.porter.noticed.Store(true)
		s.activity.waking.Add(1) // so that it stays
	})
	visit := "GET /a?b HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n"
	poll := "OPTIONS /a HTTP/1.1\r\nHost: a\r\nZerolet-Waiting: yes\r\n\r\n"
	for range 3 {
		c := proxytest.Connect(t, r.addr)
		proxytest.Must(io.WriteString(c, visit+visit))(t)
		q := proxytest.Must(http.ReadResponse(bufio.NewReader(c), nil))(t)
		page := string(proxytest.Must(io.ReadAll(q.Body))(t))
		if q.StatusCode != 503 || q.Header.Get("Retry-After") == "" || q.Header.Get("Cache-Control") != "no-store" || !q.Close || !strings.Contains(page, "<h1>web</h1>") {
			t.Errorf("%s %v: %s", q.Status, q.Header, page)
		}
	}
	proxytest.Must(0, os.WriteFile(filepath.Join(cfg.WakeResult, "web.service"), []byte("exit-code exited 125\n"), 0o600))(t)
	proxytest.Eventually(t, "the page has the reason", func() bool {
		c := proxytest.Connect(t, r.addr)
		defer c.Close()
		by, page := ask(t, c, bufio.NewReader(c), visit)
		return by == "failing" && strings.Contains(page, "web.service has failed: exit-code (exited, 125).")
	})
	c := proxytest.Connect(t, r.addr)
	if by, page := ask(t, c, bufio.NewReader(c), poll); by != "failing" || !strings.Contains(page, "<h1>web</h1>") {
		t.Errorf("the page asks: %q: %s", by, page)
	}
	held := proxytest.Connect(t, r.addr)
	proxytest.Must(io.WriteString(held, strings.Replace(visit, "GET", "POST", 1)))(t)
	proxytest.Eventually(t, "others are held", func() bool { return r.activity.open.Load()-r.activity.apart.Load() == 1 })
	if !r.activity.busy() || r.activity.isReached() {
		t.Errorf("the wake is forgotten: %s", r.status())
	}
	l := proxytest.ListenTCP(t, at.IP.String())
	serves := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { fmt.Fprint(w, q.URL) })}
	go serves.Serve(l)
	t.Cleanup(func() { serves.Close() })
	ask(t, held, bufio.NewReader(held), "")
	proxytest.Eventually(t, "the wake is remembered", func() bool { text, _ := os.ReadFile(cfg.WakeTimes); return len(text) > 0 })
	for _, test := range []struct{ text, by, body string }{ // the app has the visit and nothing else
		{poll, "awake", ""}, {visit, "", "/a?b"}, {poll, "awake", ""},
	} {
		c := proxytest.Connect(t, r.addr)
		if by, body := ask(t, c, bufio.NewReader(c), test.text); by != test.by || body != test.body {
			t.Errorf("%q by %q, want %+v", body, by, test)
		}
	}
	serves.Close() // it is gone, and comes back
	for _, text := range []string{visit, poll} {
		c := proxytest.Connect(t, r.addr)
		if by, _ := ask(t, c, bufio.NewReader(c), text); by != "waking" && by != "failing" {
			t.Errorf("the app is gone: answered by %q", by)
		}
	}
}

// A container that does not start, since what it needs has failed, tells nothing itself.
func TestPageOfNoStart(t *testing.T) {
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	cfg := proxytest.Config(front, proxytest.FreeAddr(t))
	cfg.Start, _ = newWaker(t)
	cfg.WaitingPage, cfg.WakeTimes, cfg.WakeResult = true, filepath.Join(t.TempDir(), "times"), t.TempDir()
	r := serve(t, cfg, front, func(s *server) { s.cgroup.Assume(filepath.Join(t.TempDir(), "none")) })
	proxytest.Eventually(t, "the page has the reason", func() bool {
		c := proxytest.Connect(t, r.addr)
		defer c.Close()
		by, page := ask(t, c, bufio.NewReader(c), "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n")
		return by == "failing" && strings.Contains(page, "web.service does not start")
	})
}

// What another unit keeps awake is awake for who asks first, and was not woken.
func TestFoundAwake(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	serves := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go serves.Serve(l)
	t.Cleanup(func() { serves.Close() })
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	var asked *atomic.Int64
	cfg.Start, asked = newWaker(t)
	cfg.Probes, cfg.WaitingPage, cfg.StayAwake = []string{"/up"}, true, time.Hour
	cfg.WakeTimes, cfg.WakeResult = filepath.Join(t.TempDir(), "times"), filepath.Join(t.TempDir(), "result")
	r := serve(t, cfg, front, nil) // it has a cgroup
	for _, text := range []string{up, strings.Replace(up, "/up", "/x", 1)} {
		c := proxytest.Connect(t, r.addr)
		if by, _ := ask(t, c, bufio.NewReader(c), text); by != "" {
			t.Errorf("answered by %q", by)
		}
	}
	if _, err := os.Stat(cfg.WakeTimes); !errors.Is(err, fs.ErrNotExist) || strings.Contains(r.log.String(), "ready") || asked.Load() > 1 {
		t.Errorf("%v, started %d times: %s", err, asked.Load(), r.log)
	}
}

// A monitor learns of a wake that takes too long.
func TestProbeOfFailure(t *testing.T) {
	r, _, _ := heard(t, func(c *wire.Config) { c.StartTimeout = time.Millisecond; c.Start = "/nowhere" })
	c := proxytest.Connect(t, r.addr)
	proxytest.Must(io.WriteString(c, "x"))(t)
	proxytest.Eventually(t, "the wake fails", func() bool {
		c := proxytest.Connect(t, r.addr)
		defer c.Close()
		by, _ := ask(t, c, bufio.NewReader(c), up)
		return by == "failing"
	})
}
