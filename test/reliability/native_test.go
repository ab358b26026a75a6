package reliability

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// native declares app.container with sockets of its own.
func native(h *harness.Host, exec string, lines ...string) {
	h.Helper()
	h.App("app", exec, append([]string{
		"Label=zerolet.native=yes", h.Publish(), fmt.Sprintf("PublishPort=%d:81", echoPort(h)), "[ScaleToZero]", "Mode=native",
	}, lines...)...)
}

const nativeApp = "-http systemd:0 -echo systemd:1"

// What may happen to a container that accepts by itself.
func TestNativeFaults(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		for _, test := range []struct {
			name string
			run  func(h *harness.Host)
		}{
			{"ConnectWhileStopping", nativeConnectWhileStopping},
			{"ProxyKilled", nativeProxyKilled},
			{"ContainerKilled", nativeContainerKilled},
			{"SocketRestarted", nativeSocketRestarted},
			{"OpeningFails", nativeOpeningFails},
			{"TakesNone", nativeTakesNone},
			{"NoKeys", nativeNoKeys},
		} {
			t.Run(test.name, func(t *testing.T) {
				h := *h
				h.T = t
				test.run(&h)
				atRest(&h, "app-open.service") // which comes after the container, and is the next one's, too
			})
		}
	})
}

// A container that is being stopped and still accepts gets no client: who
// knocks is let in when it is gone, and answered by the next one.
func nativeConnectWhileStopping(h *harness.Host) {
	g := newStopGate(h, "app.service")
	native(h, nativeApp, "IdleTimeout=300ms")
	first := h.MustGet()
	waitStage(h, "app.service", "stop")
	a := background(h)
	h.Wait("the client has knocked", func() bool {
		return h.Output("sh", "-c", fmt.Sprintf("ss -Htn state syn-sent dport = :%d", h.Port)) != ""
	})
	h.Expect("app.service", "deactivating")
	g.open()
	if id := (<-a).must(h); id == first {
		h.Error("a container that was being stopped answered")
	}
	h.Asleep()
	removeDropIn(h, "app.service")
}

// A proxy that is killed, or restarted, comes back beside the same container,
// connections go on, and the app has its socket in the mode that it has set.
func nativeProxyKilled(h *harness.Host) {
	native(h, nativeApp, "IdleTimeout=1s")
	c := underWay(h)
	first := h.MustGet()
	pid := func() string { return h.Property("app-proxy.service", "MainPID") }
	h.Wait("the app has set its socket's mode and the proxy has seen it", func() bool {
		return nonblocking(h) && h.Output("ls", h.RuntimeDir+"/zerolet/app-proxy") != ""
	})
	for _, act := range [][]string{{"kill", "--signal=KILL", "app-proxy.service"}, {"restart", "app-proxy.service"}} {
		before := pid()
		h.Control(act...)
		h.Wait("another proxy is there", func() bool { now := pid(); return now != before && now != "0" })
		h.WaitState("app-proxy.service", "active")
		h.Wait("the socket has its mode again", func() bool { return nonblocking(h) })
		exchange(h, c, "still here")
		if id := h.MustGet(); id != first {
			h.Errorf("after %s another container answered", act[0])
		}
	}
	_ = c.Close()
	h.Asleep()
}

// nonblocking tells the mode of the app's first socket, which the proxy shares
// once it has been started.
func nonblocking(h *harness.Host) bool {
	h.Helper()
	pid := h.Property("app-proxy.service", "MainPID")
	out, err := h.Session.Run(h.Context(), "sed", "-n", "s/^flags:[[:space:]]*//p", "/proc/"+pid+"/fdinfo/3")
	if err != nil {
		return false
	}
	flags, err := strconv.ParseUint(strings.TrimSpace(out.Stdout), 8, 64)
	return err == nil && flags&syscall.O_NONBLOCK != 0
}

func nativeContainerKilled(h *harness.Host) {
	native(h, nativeApp, "IdleTimeout=1s")
	c := underWay(h) // however long it takes to find the process
	first, start := h.MustGet(), h.Property("app.service", "InvocationID")
	h.M.Root().Must(h.T, "kill", "-KILL", containerPID(h))
	h.Wait("the container is down", func() bool {
		return h.State("app.service") != "active" || h.Property("app.service", "InvocationID") != start
	})
	_ = c.Close()
	if id := h.MustGet(); id == first {
		h.Error("a container that was killed answered")
	}
	h.Asleep()
}

// The socket can be opened anew only when the container has let go of it.
func nativeSocketRestarted(h *harness.Host) {
	native(h, nativeApp, "IdleTimeout=1s")
	first := h.MustGet()
	h.Control("restart", "app-proxy.socket")
	h.WaitState("app-proxy.socket", "active")
	if id := h.MustGet(); id == first {
		h.Error("the container has kept a socket that was closed")
	}
	c := underWay(h)
	atRest(h, "app-open.service")
	if !nonblocking(h) {
		h.Error("the app's socket was made a blocking one behind its back")
	}
	_ = c.Close()
	h.Asleep()
	h.MustGet()
	h.Control("stop", "app-proxy.service")
	h.MustGet()
	h.Asleep()
}

// The service that opens the sockets is tried again until it has.
func nativeOpeningFails(h *harness.Host) {
	once := h.RuntimeDir + "/failed-once"
	dropIn(h, "app-open.service", "[Service]", "ExecStartPre=+/bin/sh -c 'test -d "+once+" || { mkdir "+once+"; exit 1; }'")
	native(h, nativeApp, "IdleTimeout=300ms")
	first := h.MustGet()
	h.Wait("opening has failed", func() bool { return h.Output("ls", "-d", once) != "" })
	if id := h.MustGet(); id == first {
		h.Error("the container was not stopped")
	}
	removeDropIn(h, "app-open.service")
	h.Asleep()
}

// An app that does not take its socket costs its clients the start timeout,
// and the journal says why.
func nativeTakesNone(h *harness.Host) {
	native(h, "-http :80", "IdleTimeout=300ms", "StartTimeout=2s")
	if id, err := h.Get(); err == nil {
		h.Errorf("answered by %s", id)
	}
	h.Wait("the journal says why", func() bool { return contains(h, "app-proxy.service", "does not take sockets from systemd") })
	h.Asleep()
}

// A kernel that cannot shut a socket refuses the client, with the reason, and the
// container does not run for ever. A filter stands in for that kernel.
func nativeNoKeys(h *harness.Host) {
	for _, unit := range []string{"app-proxy.service", "app-open.service"} {
		dropIn(h, unit, "[Service]", "SystemCallFilter=~setsockopt", "SystemCallErrorNumber=ENOPROTOOPT")
	}
	native(h, nativeApp, "IdleTimeout=300ms")
	for range 2 {
		goesOn := stopJournal(h) // which is to know whose words they are
		if id, err := h.Get(); err == nil {
			h.Errorf("answered by %s", id)
		}
		goesOn()
		h.WaitState("app-proxy.service", "failed")
		for _, unit := range []string{"app.service", "app-open.service"} {
			if state := atRest(h, unit); state != "inactive" {
				h.Errorf("%s is %s", unit, state)
			}
		}
		h.Expect("app-proxy.socket", "active")
	}
	h.Wait("status says why", func() bool { // journald may be behind
		out, err := h.Session.Run(h.Context(), "zerolet", "status", "app")
		return err != nil && strings.Contains(out.Stdout, "failing") && strings.Contains(out.Stdout, "Mode=native cannot be had here")
	})
	removeDropIn(h, "app-open.service")
	removeDropIn(h, "app-proxy.service")
	h.MustGet()
	h.Asleep()
}

// As TestIdleEdgeOnPodman.
func TestNativeEdgeOnPodman(t *testing.T) {
	bothManagers(t, wakes(12, 10), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{idle: 200 * time.Millisecond, services: 3, wakes: left}
		for i := range b.services {
			h.App(name(i), "-tally systemd:0", "Label=zerolet.native=yes", fmt.Sprintf("PublishPort=%d:80", port(h, i)),
				"[ScaleToZero]", "Mode=native", "IdleTimeout=200ms")
		}
		b.run(h, r)
		b.check(h, talliedInJournal(h))
	})
}

// As TestIdleEdgeByForce.
func TestNativeEdgeByForce(t *testing.T) {
	bothManagers(t, wakes(60, 1), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{idle: 50 * time.Millisecond, services: 8, wakes: left}
		app := installApp(h)
		for i := range b.services {
			dropIn(h, name(i)+".service", "[Service]", "Type=exec", "ExecStart=", "ExecStop=", "ExecStopPost=", "Delegate=no",
				"ExecStart="+app+" -tally systemd:0", "StandardOutput=append:%t/tally.log")
			h.Declare(name(i), "Image=localhost/none", "Label=zerolet.native=yes", fmt.Sprintf("PublishPort=%d:80", port(h, i)),
				"[ScaleToZero]", "Mode=native", "IdleTimeout=50ms")
		}
		b.run(h, r)
		b.check(h, talliedInFile(h))
		for i := range b.services {
			if log, err := h.Journal(h.Context(), name(i)+"-proxy.service"); err != nil || strings.Contains(log, "trying again") {
				h.Errorf("%v\n%s", err, log)
			}
		}
	})
}
