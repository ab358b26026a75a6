package proxy

import (
	"io"
	"strings"
	"testing"
	"time"
)

// A connection that only stays open keeps nothing up: the proxy ends, and the
// client sees an end in order.
func TestSilentConnection(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = 50*time.Millisecond, 50*time.Millisecond
	r := serve(t, cfg, front, nil)
	c := connect(t, r.addr)
	ask(t, c, "ping")
	r.wait(t)
	expectEnd(t, c)
	if !strings.Contains(r.log.String(), "idle for 50ms") {
		t.Error(r.log)
	}
}

// One with traffic does, and one that speaks again at the last moment too.
func TestSpeakingConnection(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = time.Millisecond, 10*time.Millisecond
	written := make(chan struct{})
	var spoken bool
	r := prepareServer(t, cfg, filesOf(t, front))
	edge := make(chan struct{})
	r.afterPause = func() {
		if !spoken {
			spoken = true
			close(edge) // the proxy is about to end
			<-written
		}
	}
	r.run(t)
	c := connect(t, r.addr)
	ask(t, c, "ping")
	<-edge
	io.WriteString(c, "pong")
	close(written)
	expect(t, c, "pong")
	r.wait(t)
	expectEnd(t, c)
}

// Silence counts, and takes nothing from the count of what is open.
func TestSilenceIsCounted(t *testing.T) {
	front, l := listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	app(t, l, echo)
	cfg := config(front, addrOf(l))
	cfg.IdleTimeout, cfg.ConnectionIdleTimeout = time.Hour, 10*time.Millisecond
	r := serve(t, cfg, front, nil)
	a, b := connect(t, r.addr), connect(t, r.addr)
	ask(t, a, "ping")
	ask(t, b, "ping")
	eventually(t, "both are silent", func() bool {
		return strings.HasPrefix(r.status(), "2 connections open (2 silent), ") &&
			strings.Contains(r.status(), " ends=")
	})
	ask(t, a, "ping")
	a.Close()
	b.Close()
	eventually(t, "all have ended", func() bool { return r.activity.open.Load() == 0 && r.activity.silent.Load() == 0 })
}
