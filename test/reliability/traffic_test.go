package reliability

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// The proxy is killed: its connections end, the next client is served by the
// same container a second later.
func TestProxyKilled(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -echo :81", withEcho(h, "1h")...)
		c := underWay(h)
		first := h.MustGet()
		h.Must(t, "kill", "-9", h.Property("app-proxy.service", "MainPID"))
		if _, err := io.ReadAll(c); err == nil {
			t.Log("the open connection ended with a FIN")
		}
		began := time.Now()
		if again := h.MustGet(); again != first {
			t.Errorf("the container was started anew: %s, then %s", first, again)
		}
		t.Logf("served again after %s", time.Since(began).Round(time.Millisecond))
		sleepNow(h)
		h.Asleep()
	})
}

// A proxy that cannot run is tried at most once a second, for ever, and the
// client that waits is served by the first that can.
func TestProxyCrashLoop(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app-proxy.service", "[Service]", "ExecStart=", "ExecStart=sh -c 'date +crash%%s%%N; exit 1'")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		a := background(h)
		var crashes []time.Duration
		h.Wait("the proxy has crashed", func() bool {
			crashes = nil
			for _, r := range records(h, "_TRANSPORT=stdout") {
				if text, ok := strings.CutPrefix(r.text("MESSAGE"), "crash"); ok {
					ns, err := strconv.ParseInt(text, 10, 64)
					if err != nil {
						t.Fatal(err)
					}
					crashes = append(crashes, time.Duration(ns))
				}
			}
			return len(crashes) >= 5
		}, "app-proxy.service")
		for i, at := range crashes[1:] {
			if gap := at - crashes[i]; gap < time.Second {
				t.Errorf("crashes %s apart", gap)
			}
		}
		h.Expect("app-proxy.socket", "active")
		removeDropIn(h, "app-proxy.service")
		(<-a).must(h)
		h.Asleep()
	})
}

// The container is killed under traffic: its connections end, the next client
// gets a new container from the same proxy.
func TestContainerKilled(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-greet :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h")
		c := h.Connect()
		id := make([]byte, 27)
		if _, err := io.ReadFull(c, id); err != nil {
			t.Fatal(err)
		}
		proxy := h.Property("app-proxy.service", "MainPID")
		h.Must(t, "kill", "-9", containerPID(h))
		began := time.Now()
		again := make([]byte, 27)
		next := h.Connect()
		c.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection to the dead container stays open")
		}
		c.Close()
		next.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := io.ReadFull(next, again); err != nil {
			next.Close() // it got through to the one that was dying
			next = h.Connect()
			next.SetReadDeadline(time.Now().Add(harness.Patience))
			if _, err := io.ReadFull(next, again); err != nil {
				t.Fatal(err, h.LastJournal())
			}
		}
		if bytes.Equal(id, again) {
			t.Errorf("the dead container answered: %s", again)
		}
		t.Logf("a new container answered after %s", time.Since(began).Round(time.Millisecond))
		if pid := h.Property("app-proxy.service", "MainPID"); pid != proxy {
			t.Errorf("the proxy was %s and is %s", proxy, pid)
		}
		next.Close()
		sleepNow(h)
		h.Asleep()
	})
}

// An app that hangs holds its client, and no more than that: when the client
// leaves, the container is stopped by force.
func TestAppHangs(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-echo :80", h.Publish(), "PodmanArgs=--stop-timeout=1", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		exchange(h, c, "before")
		h.Must(t, "kill", "-STOP", containerPID(h))
		if _, err := c.Write([]byte("into the void")); err != nil {
			t.Fatal(err)
		}
		abort(c)
		stopped(h)
		exchange(h, h.Connect(), "again")
	})
}

// A container that ignores SIGTERM is killed after its stop timeout. A client
// that comes meanwhile waits for the next start.
func TestIgnoresTerm(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -ignore-term", h.Publish(), "PodmanArgs=--stop-timeout=1", "[ScaleToZero]", "IdleTimeout=1s")
		first := h.MustGet()
		h.Wait("the container is being stopped, or is", func() bool { return h.State("app.service") != "active" })
		if again := h.MustGet(); again == first {
			t.Error("a container that was being stopped answered")
		}
		stopped(h)
	})
}

// stopped waits until the container is gone, by force if need be: then the
// unit has failed with the status of SIGKILL, which is worth seeing.
func stopped(h *harness.Host) {
	h.Helper()
	h.WaitState("app-proxy.service", "inactive")
	h.Wait("the container is gone", func() bool {
		state := h.State("app.service")
		return state == "failed" || state == "inactive"
	}, "app.service")
	if left := harness.Containers(h.T, h.Session); left != "" {
		h.Errorf("containers are left: %s", left)
	}
}

// A client that shuts down its side still gets the whole answer, on a cold
// start and on a warm one.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-sum :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		const size = 1 << 20
		for range 2 {
			c := h.Connect()
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			text, err := io.ReadAll(c)
			if got := strings.TrimSpace(string(text)); err != nil || got != strconv.Itoa(size) {
				t.Errorf("read %q, %v\n%s", got, err, h.LastJournal())
			}
		}
		h.Asleep()
	})
}

// A client that resets does not keep the container up.
func TestClientResets(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-echo :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		exchange(h, c, "hello")
		abort(c)
		h.Asleep()
	})
}

// A reset by the app is a reset for the client, never a clean end, and comes
// after every byte that the app has sent.
func TestBackendResets(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-cut :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for _, first := range []string{"read", "write"} {
			c := h.Connect()
			var got [64]byte
			n := 0
			if first == "read" {
				n, _ = c.Read(got[:])
			}
			c.Write([]byte("x"))
			var err error
			for err == nil {
				var more int
				more, err = c.Read(got[n:])
				n += more
			}
			if n != 27 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s first: %q, then %v; want the start id, then a reset", first, got[:n], err)
			}
		}
		h.Asleep()
	})
}

// A client that reads slowly costs no memory, however much it asked for.
func TestSlowReader(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		const size = 1 << 30
		r, err := h.M.HTTP().Get(fmt.Sprintf("http://%s/bytes?n=%d", h.Addr(), size))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		most, total := 0, int64(0)
		for total < size {
			most = max(most, resident(h)) // more is to come than sockets can hold, so it runs
			n, err := io.CopyN(io.Discard, r.Body, 32<<20)
			total += n
			if err != nil {
				t.Fatalf("%d bytes of %d, then %v", total, size, err)
			}
		}
		t.Logf("the proxy had at most %d kB", most)
		if most > 32<<10 {
			t.Errorf("the proxy had %d kB", most)
		}
		h.Asleep()
	})
}

// resident is the proxy's memory in kB.
func resident(h *harness.Host) int {
	h.Helper()
	pid := h.Property("app-proxy.service", "MainPID")
	kb, err := strconv.Atoi(h.Must(h.T, "awk", "/^VmRSS/{print $2}", "/proc/"+pid+"/status"))
	if err != nil {
		h.Fatal(err)
	}
	return kb
}

// A client whose machine is gone without a word is given up after 90 s.
func TestSilentPeer(t *testing.T) {
	if !*soak {
		t.Skip("takes 90 s: -soak; the socket options are tested in proxy/")
	}
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-echo :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		exchange(h, c, "hello")
		port := c.LocalAddr().(*net.TCPAddr).Port
		h.M.Root().Must(t, "nft", fmt.Sprintf("add table inet silent; add chain inet silent in { type filter hook input priority 0; }; "+
			"add rule inet silent in tcp sport %d drop; add rule inet silent in tcp dport %d drop", port, port))
		began := time.Now()
		h.WaitFor(t, 3*time.Minute, "the silent client is given up", func() (bool, error) {
			return h.State("app-proxy.service") == "inactive", nil
		})
		t.Logf("given up and asleep %s after the last word", time.Since(began).Round(time.Second))
		h.M.Root().Must(t, "nft", "delete table inet silent")
		h.Asleep()
	})
}

// A held client that closes looks like one that has shut down its side and
// waits for the answer. Its kernel knows the connection for another minute
// (tcp_fin_timeout, tcp(7)); then a keepalive probe is answered with a reset.
func TestHeldClientCloses(t *testing.T) {
	if !*soak {
		t.Skip("takes a minute: -soak")
	}
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :81", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "StartTimeout=1h")
		c := h.Connect()
		h.WaitState("app-proxy.service", "active")
		c.Close()
		began := time.Now()
		h.WaitFor(t, 3*time.Minute, "the client is known to be gone", func() (bool, error) {
			return h.State("app-proxy.service") == "inactive", nil
		})
		t.Logf("known to be gone and asleep after %s", time.Since(began).Round(time.Second))
		h.Asleep()
	})
}

// With too few descriptors clients wait in the backlog, and all are served.
func TestFileLimit(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app-proxy.service", "[Service]", "LimitNOFILE=100")
		h.App("app", "-echo :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		const clients = 60
		var served atomic.Int32
		var all sync.WaitGroup
		for range clients {
			c := h.Connect()
			all.Go(func() {
				exchange(h, c, "hello")
				served.Add(1)
				c.Close()
			})
		}
		all.Wait()
		if n := served.Load(); n != clients {
			t.Errorf("%d of %d clients were served", n, clients)
		}
		h.Asleep()
	})
}

// traffic has clients ask until stop is called, which returns how often they
// were answered, the worst wait, and the errors.
func traffic(h *harness.Host, clients int) (stop func() (int, time.Duration, []error)) {
	var mu sync.Mutex
	var errs []error
	var worst time.Duration
	n := 0
	end := make(chan struct{})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				began := time.Now()
				_, err := h.Get()
				mu.Lock()
				n++
				worst = max(worst, time.Since(began))
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	return func() (int, time.Duration, []error) {
		close(end)
		all.Wait()
		return n, worst, errs
	}
}

// Nothing that an administrator does to the manager or to zerolet loses a
// request or an open connection.
func TestManagerUnderTraffic(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -echo :81", withEcho(h, "200ms")...)
		c := underWay(h)
		for _, step := range []struct {
			name string
			do   func()
		}{
			{"daemon-reload", h.Reload},
			{"daemon-reexec", func() { h.Control("daemon-reexec") }},
			{"two reloads at once", func() {
				var both sync.WaitGroup
				both.Go(h.Reload)
				both.Go(h.Reload)
				both.Wait()
			}},
			{"reinstall", func() {
				harness.Install(t, h.M)
				h.Reload()
			}},
		} {
			stop := traffic(h, 2)
			for range 3 {
				step.do()
			}
			n, worst, errs := stop()
			if len(errs) > 0 {
				t.Errorf("%s: %d of %d requests were lost: %v", step.name, len(errs), n, errs[0])
			}
			t.Logf("%s: %d requests, none lost, worst wait %s", step.name, n, worst.Round(time.Millisecond))
			exchange(h, c, step.name)
		}
		c.Close()
		h.Asleep()
	})
}

// drainsLong has the proxy wait for its clients for longer than it does, which is not
// long on a slow machine.
func drainsLong(h *harness.Host) {
	h.Helper()
	const unit = "app-proxy.service"
	command := h.Must(h.T, "sed", "-n", "s/--drain-timeout=[^ ]*/--drain-timeout=10m/; /^ExecStart=/p", filepath.Join(h.GeneratorDir, unit))
	if !strings.Contains(command, "--drain-timeout=10m ") {
		h.Fatal(command)
	}
	dropIn(h, unit, "[Service]", "ExecStart=", command, "TimeoutStopSec=11min")
	h.Reload()
}

// restart restarts a unit while something is under way on c, which goes on
// until it has ended.
func restart(h *harness.Host, unit string, c *net.TCPConn) {
	h.Helper()
	before := h.Property(unit, "InvocationID")
	h.Control("--no-block", "restart", unit)
	h.WaitState("app-proxy.service", "deactivating")
	exchange(h, c, "meanwhile")
	c.Close()
	h.Wait(unit+" is restarted", func() bool {
		return h.State(unit) == "active" && h.Property(unit, "InvocationID") != before
	}, unit)
}

// Each unit is restarted while something is under way and others come.
func TestRestartUnits(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -echo :81", withEcho(h, "1s")...)
		drainsLong(h)
		c := underWay(h)
		stop := traffic(h, 2)
		restart(h, "app-proxy.service", c)
		if n, _, errs := stop(); len(errs) > 0 {
			t.Errorf("restart of the proxy lost %d of %d requests: %v", len(errs), n, errs[0])
		}

		c = underWay(h)
		first := h.MustGet()
		h.Control("restart", "app.service")
		if id := h.MustGet(); id == first {
			t.Error("restart did not restart the container")
		}
		c.Close()

		restart(h, "app-proxy.socket", underWay(h))
		h.MustGet()
		h.Asleep()
	})
}

// A changed port listens once the socket is restarted, and what is open on the
// old one goes on.
func TestPortChanged(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -echo :81", withEcho(h, "1s")...)
		drainsLong(h)
		c := underWay(h)
		old := h.Port
		h.Port += 100
		h.App("app", "-http :80 -echo :81", withEcho(h, "1s")...)
		drainsLong(h)
		restart(h, "app-proxy.socket", c)
		h.MustGet()
		if _, err := h.M.Dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", old)); err == nil {
			t.Error("the old port listens still")
		}
		h.Asleep()
	})
}
