package proxy

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// A connection that only stays open keeps nothing up: the proxy ends, and the
// client sees an end in order.
func TestSilentConnection(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = time.Second, time.Second
	c := proxytest.Connect(t, front.Addr().String())
	io.WriteString(c, "ping")
	r := serve(t, cfg, front, nil)
	proxytest.Expect(t, c, "ping")
	r.wait(t)
	proxytest.ExpectEnd(t, c)
	if !strings.Contains(r.log.String(), "idle for 1s") {
		t.Error(r.log)
	}
}

// One with traffic does, and one that speaks again at the last moment too.
func TestSpeakingConnection(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = time.Second, time.Second
	written := make(chan struct{})
	var spoken bool
	r := prepareServer(t, cfg, proxytest.FilesOf(t, front))
	edge := make(chan struct{})
	r.afterPause = func() {
		if !spoken {
			spoken = true
			close(edge) // the proxy is about to end
			<-written
		}
	}
	c := proxytest.Connect(t, r.addr)
	io.WriteString(c, "ping")
	r.run(t)
	proxytest.Expect(t, c, "ping")
	<-edge
	io.WriteString(c, "pong")
	close(written)
	proxytest.Expect(t, c, "pong")
	r.wait(t)
	proxytest.ExpectEnd(t, c)
}

// Silence counts, and takes nothing from the count of what is open.
func TestSilenceIsCounted(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = time.Hour, 10*time.Millisecond
	r := serve(t, cfg, front, nil)
	a, b := proxytest.Connect(t, r.addr), proxytest.Connect(t, r.addr)
	proxytest.Ask(t, a, "ping")
	proxytest.Ask(t, b, "ping")
	proxytest.Eventually(t, "both are silent", func() bool {
		return strings.HasPrefix(r.status(), "2 connections open (2 silent), ") &&
			strings.Contains(r.status(), " ends=")
	})
	proxytest.Ask(t, a, "ping")
	a.Close()
	b.Close()
	proxytest.Eventually(t, "all have ended", func() bool { return r.activity.open.Load() == 0 && r.activity.silent.Load() == 0 })
}
