package proxy

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// servedRival is a proxy that never sleeps by itself.
func servedRival(t *testing.T, tweak func(*wire.Config)) (*running, *net.TCPListener) {
	t.Helper()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.GivesWay = wire.Infinity, true
	if tweak != nil {
		tweak(&cfg)
	}
	return serve(t, cfg, front, nil), front
}

// untilFree asks until the proxy is free.
func (r *running) untilFree(t *testing.T) {
	t.Helper()
	proxytest.Eventually(t, "is free", func() bool {
		r.stop <- wire.GiveWay
		return r.way.free.Load()
	})
}

// stopContainer asks until the proxy is free, and has the container be another one.
func (r *running) stopContainer(t *testing.T) {
	t.Helper()
	r.untilFree(t)
	select {
	case <-r.done:
		t.Error("gone before the container")
	default:
	}
	r.cgroup.Assume(t.TempDir())
	r.wait(t)
}

// Who is connected finishes, who has come before is served, and who comes later
// waits in the backlog for the next proxy.
func TestGiveWay(t *testing.T) {
	r, front := servedRival(t, nil)
	inside := proxytest.Connect(t, r.addr)
	proxytest.Ask(t, inside, "ping")
	settled := make(chan struct{})
	r.afterPause = sync.OnceFunc(func() {
		r.way.asked.Store(time.Now().Add(proxytest.Patience).UnixNano()) // it is asked again and again
		close(settled)
	})
	r.stop <- wire.GiveWay
	<-settled
	proxytest.Ask(t, inside, "pong")
	if r.way.free.Load() {
		t.Error("free while somebody is connected")
	}
	inside.Close()
	r.untilFree(t)
	late := proxytest.Connect(t, r.addr) // who is let in keeps the proxy from being free
	r.stopContainer(t)
	if log := r.log.String(); !strings.Contains(log, "gave way") {
		t.Errorf("journal:\n%s", log)
	}
	serve(t, r.cfg, front, nil)
	proxytest.Ask(t, late, "next")
}

// Nobody is put off who has woken the container: they are served first.
func TestGiveWayServesFirst(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.GivesWay = wire.Infinity, true
	clients := make([]net.Conn, 20)
	for i := range clients {
		clients[i] = proxytest.Connect(t, front.Addr().String())
	}
	r := serve(t, cfg, front, func(s *server) { s.way.ask() })
	for _, c := range clients {
		r.stop <- wire.GiveWay
		proxytest.Ask(t, c, "ping")
		c.Close()
	}
	r.stopContainer(t)
}

// Who has woken the container may take a moment to be seen, as by way of a stand-in:
// the proxy is not free before.
func TestGiveWayNotAtOnce(t *testing.T) {
	r, _ := servedRival(t, nil)
	r.untilFree(t)
	if after := time.Since(r.activity.start); after < firstServed {
		t.Errorf("free after %s, and nobody has come", after)
	}
	r.stopContainer(t)
}

// Whoever asks no more, the proxy goes on; and for the least time it stays.
func TestGiveWayNoMore(t *testing.T) {
	began := time.Now()
	r, _ := servedRival(t, func(c *wire.Config) { c.StayAwake = 2 * time.Second })
	c := proxytest.Connect(t, r.addr)
	proxytest.Ask(t, c, "ping")
	c.Close()
	r.stopContainer(t)
	if took := time.Since(began); took < r.cfg.StayAwake {
		t.Errorf("gone after %s", took)
	}
	r, _ = servedRival(t, nil)
	c = proxytest.Connect(t, r.addr)
	proxytest.Ask(t, c, "ping")
	r.stop <- wire.GiveWay
	proxytest.Eventually(t, "is asked", r.way.isAsked)
	r.way.asked.Store(time.Now().Add(-askedFor).UnixNano()) // long ago
	proxytest.Ask(t, proxytest.Connect(t, r.addr), "ping")
}

// The proxy is not free while somebody is let in who may still turn out to be a use.
func TestGiveWayToNobodyUnheard(t *testing.T) {
	r, _, _ := heard(t, func(c *wire.Config) { c.GivesWay, c.ByData = true, true })
	c := proxytest.Connect(t, r.addr)
	ask(t, c, bufio.NewReader(c), strings.Replace(up, "/up", "/x", 1))
	c.Close()
	proxytest.Eventually(t, "it is counted out", func() bool { return !r.activity.busy() })
	late := proxytest.Connect(t, r.addr)
	proxytest.Eventually(t, "it is let in", func() bool { return r.activity.apart.Load() == 1 })
	r.untilFree(t)
	if r.activity.apart.Load() > 0 {
		t.Error("free, and somebody is there who may speak")
	}
	proxytest.ExpectEnd(t, late)
	r.stopContainer(t)
}
