package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// An app that resets a connection once it has had a probe gets no other connection
// for what follows on the client's: the answer to that would be taken for the one to
// the probe.
func TestProbeIsLost(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	var lost atomic.Bool
	proxytest.App(t, l, func(c *net.TCPConn) {
		b := make([]byte, 4)
		if _, err := io.ReadFull(c, b); err == nil && string(b) == "PUT " {
			lost.Store(true)
		}
		proxytest.ResetConn(c)
	})
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.Probes = []string{"/up"}
	cfg.Start, _ = newWaker(t)
	r := serve(t, cfg, front, func(s *server) { s.resetGrace = 0 })
	c := proxytest.Connect(t, r.addr)
	proxytest.Must(io.WriteString(c, "POST / HTTP/1.1\r\n"))(t)
	proxytest.Eventually(t, "somebody was let in", func() bool { return r.activity.isReached() })
	c.Close()
	for range 500 {
		c := proxytest.Connect(t, r.addr)
		proxytest.Must(io.WriteString(c, up+"PUT /x HTTP/1.1\r\n"))(t)
		_, _ = io.ReadAll(c)
		c.Close()
	}
	if lost.Load() {
		t.Error("the app was sent the second request without the first")
	}
}

// A client that asks for much and takes nothing does not keep the proxy from ending.
func TestProbeIsNotTaken(t *testing.T) {
	for name, follows := range map[string]string{
		"nothing follows":         "",
		"more than the app reads": strings.Repeat(up, 1<<17),
		"a use follows":           "POST / HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
			proxytest.App(t, l, func(c *net.TCPConn) {
				for text := []byte(strings.Repeat("a", 1<<20)); ; {
					if _, err := c.Write(text); err != nil {
						return
					}
				}
			})
			cfg := proxytest.Config(front, proxytest.AddrOf(l))
			cfg.Probes, cfg.DrainTimeout = []string{"/up"}, grace+time.Second
			cfg.Start, _ = newWaker(t)
			r := serve(t, cfg, front, func(s *server) { s.porter.noticed.Store(true) })
			c := proxytest.Connect(t, r.addr)
			proxytest.Must(io.WriteString(c, "x"))(t)
			proxytest.Eventually(t, "somebody was let in", func() bool { return r.activity.isReached() })
			c.Close()
			proxytest.Eventually(t, "it is counted out", func() bool { return !r.activity.busy() })
			c = proxytest.ConnectSmall(t, r.addr)
			proxytest.Must(io.WriteString(c, up))(t)
			proxytest.Eventually(t, "the answer is stuck", func() bool {
				before := r.activity.Out.Load()
				time.Sleep(100 * time.Millisecond)
				return before > 0 && r.activity.Out.Load() == before
			})
			go io.WriteString(c, follows)
			if strings.HasPrefix(follows, "POST") {
				proxytest.Eventually(t, "it is a use", func() bool { return r.activity.busy() })
			}
			r.stop <- syscall.SIGTERM
			r.wait(t)
		})
	}
}

// muchMore is more than the buffers of two connections take.
const muchMore = 64 << 20

// chatty serves an app that answers a probe with very much, behind a proxy. It is
// awake.
func chatty(t *testing.T, change func(*wire.Config), tweak func(*server)) *running {
	t.Helper()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	serves := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/up" {
			_, _ = io.Copy(w, q.Body)
			return
		}
		for i := range muchMore >> 16 {
			_, _ = w.Write(bytes.Repeat([]byte{byte(i)}, 1<<16))
		}
	})}
	go serves.Serve(l)
	t.Cleanup(func() { serves.Close() })
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.Start, _ = newWaker(t)
	cfg.Probes = []string{"/up"}
	change(&cfg)
	c := proxytest.Connect(t, front.Addr().String()) // before, else the idle time may be over
	r := serve(t, cfg, front, func(s *server) {
		s.porter.noticed.Store(true) // the cgroup is the test's
		tweak(s)
	})
	serveOne(t, c)
	return r
}

// serveOne has the app answer a client.
func serveOne(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	if by, body := ask(t, c, bufio.NewReader(c), "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"); by != "" || body != "hi" {
		t.Fatalf("%q by %q", body, by)
	}
}

// Probes whose answers nobody reads are given up in time, also when so many follow
// that the app takes no more; and when the idle time is over.
func TestUnreadProbe(t *testing.T) {
	impatient := func(s *server) { s.answerPatience = time.Second }
	for name, pipelined := range map[string]bool{"one": false, "many": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := chatty(t, func(*wire.Config) {}, impatient)
			c := proxytest.ConnectSmall(t, r.addr)
			isGone := func() bool { return r.activity.open.Load() == 0 }
			long := strings.Repeat(strings.Replace(up, "Host", "X: "+strings.Repeat("x", 3<<10)+"\r\nHost", 1), 8)
			for before := r.activity.In.Load(); pipelined && !isGone(); before += int64(len(long)) {
				_, _ = io.WriteString(c, long) // it may be gone by now
				proxytest.Eventually(t, "the app has them, or it is over", func() bool { return isGone() || r.activity.In.Load() == before+int64(len(long)) })
			}
			if !pipelined {
				proxytest.Must(io.WriteString(c, up))(t)
				proxytest.Eventually(t, "the app answers", func() bool { return r.activity.Out.Load() > 1<<20 })
			}
			proxytest.Eventually(t, "it is gone", isGone)
		})
	}
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		r := chatty(t, func(c *wire.Config) { c.IdleTimeout, c.DrainTimeout = time.Second, wire.Infinity }, impatient)
		for _, probes := range []string{up, up + up} {
			proxytest.Must(io.WriteString(proxytest.ConnectSmall(t, r.addr), probes))(t)
		}
		r.wait(t)
	})
}

// They keep nobody else out.
func TestUnreadProbesLeaveRoom(t *testing.T) {
	const room = 2
	r := chatty(t, func(*wire.Config) {}, func(s *server) {
		for _, x := range s.targets {
			x.held = make(slots, room)
		}
	})
	for range 3 * room {
		proxytest.Must(io.WriteString(proxytest.ConnectSmall(t, r.addr), up))(t)
	}
	serveOne(t, proxytest.Connect(t, r.addr))
}

// What a client has not read yet of the answer to a probe is not lost when it turns
// out to be one that counts.
func TestLateReader(t *testing.T) {
	r := chatty(t, func(*wire.Config) {}, func(*server) {})
	c := proxytest.ConnectSmall(t, r.addr)
	proxytest.Must(io.WriteString(c, up))(t)
	last := int64(0)
	proxytest.Eventually(t, "no more fits", func() bool {
		before := last
		last = r.activity.Out.Load()
		return last == before && last > 1<<20
	})
	proxytest.Must(io.WriteString(c, strings.Replace(up, "GET /up", "HEAD /x", 1)))(t)
	proxytest.Eventually(t, "it counts", r.activity.busy)
	read := bufio.NewReader(c)
	_, body := ask(t, c, read, "")
	for i, b := range []byte(body) {
		if b != byte(i>>16) {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	if len(body) != muchMore {
		t.Errorf("%d bytes of %d", len(body), muchMore)
	}
	if q, err := http.ReadResponse(read, &http.Request{Method: "HEAD"}); err != nil || q.StatusCode != http.StatusOK {
		t.Error(q, err)
	}
}
