package proxy

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
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
