package proxy

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

func TestMain(m *testing.M) { os.Exit(proxytest.Main(m)) }

// running is a server inside the test process.
type running struct {
	*server
	stop chan os.Signal
	done chan struct{}
	err  error // what it has ended with
	log  *proxytest.Log
	addr string
}

// serve runs a server on front. tweak, if not nil, may change it first. The
// test's end stops it at once.
func serve(t testing.TB, cfg wire.Config, front *net.TCPListener, tweak func(*server)) *running {
	t.Helper()
	r := prepareServer(t, cfg, proxytest.FilesOf(t, front))
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
	r := &running{stop: make(chan os.Signal, 2), done: make(chan struct{}), log: new(proxytest.Log)}
	r.server = proxytest.Must(newServer(cfg, files, r.log))(t)
	r.cgroup.Assume(proxytest.OwnCgroup(t))
	r.addr = cfg.Forwards[0].Listen.String()
	return r
}

func (r *running) run(t testing.TB) {
	go func() {
		defer close(r.done)
		r.err = r.serve(r.stop)
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
	case <-time.After(proxytest.Patience):
		t.Fatalf("the server does not end: %s; %s", r.status(), r.log)
	}
}

// waitHeld waits until n clients are held and the app was asked in vain.
func (r *running) waitHeld(t testing.TB, n int64) {
	t.Helper()
	proxytest.Eventually(t, "clients are held", func() bool { return r.activity.open.Load() == n })
	r.waitHeldOn(t, r.cfg.Forwards[0].Target)
}

// waitHeldOn waits until the app at addr was asked in vain.
func (r *running) waitHeldOn(t testing.TB, addr wire.Address) {
	t.Helper()
	proxytest.Eventually(t, "the app is asked", func() bool {
		for _, target := range r.targets {
			if target.addr == addr && target.why() != nil {
				return true
			}
		}
		return false
	})
}
