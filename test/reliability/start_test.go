package reliability

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// breakStart has a unit fail for as long as the file broken is there, and
// a line in the file tries for each attempt.
func breakStart(h *harness.Host, unit, more string) (repair func()) {
	h.Helper()
	dropIn(h, unit, "[Service]", "ExecStartPre=/bin/sh -c 'echo >>%t/tries; "+more+"test ! -e %t/broken'")
	broken := filepath.Join(h.RuntimeDir, "broken")
	h.Must(h.T, "rm", "-f", filepath.Join(h.RuntimeDir, "tries")) // of a unit that was broken before
	h.Must(h.T, "touch", broken, filepath.Join(h.RuntimeDir, "tries"))
	return func() { h.Must(h.T, "rm", broken) }
}

func tries(h *harness.Host) int {
	h.Helper()
	n, err := strconv.Atoi(h.Must(h.T, "sh", "-c", "wc -l <"+filepath.Join(h.RuntimeDir, "tries")))
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// The client waits through any number of failed starts. systemd lets Upholds=
// try 16 times in 10 s (unit.c, auto_start_stop_ratelimit), not less than
// once, and never gives up.
func TestStartFails(t *testing.T) {
	failures := 20
	if *soak {
		failures = 100
	}
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app.service", "[Service]", fmt.Sprintf(
			"ExecStartPre=/bin/sh -c 'echo >>%%t/tries; test $(wc -l <%%t/tries) -gt %d'", failures))
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := h.Request(ctx, "/"); err != nil {
			t.Fatalf("%v\n%s", err, h.LastJournal())
		}
		took := time.Since(began)
		n := tries(h)
		if n != failures+1 {
			t.Errorf("%d starts, want %d", n, failures+1)
		}
		if most := 17 + 16*int(took/(10*time.Second)+1); n > most {
			t.Errorf("%d starts in %s: more than %d", n, took, most)
		}
		t.Logf("%d failed starts, then an answer after %s", failures, took.Round(time.Millisecond))
		h.Asleep()
	})
}

// With Restart= in the file a container that cannot start is not tried any
// more once nobody waits for it.
func TestFailedStartEndsWithItsClients(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		repair := breakStart(h, "app.service", "")
		h.App("app", "-http :80", h.Publish(), "[Service]", "Restart=always", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		h.Wait("the start has failed", func() bool { return tries(h) > 2 })
		abort(c)
		h.WaitState("app-proxy.service", "inactive")
		h.WaitState("app.service", "failed")
		repair()
		h.MustGet()
		h.Asleep()
	})
}

// The client gets its answer as soon as the image is there.
func TestImageMissing(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.Declare("app", "Image=localhost/late", "Exec=-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		a := background(h)
		h.Wait("a start has failed", func() bool { return contains(h, "app.service", "Failed to start") })
		h.Must(t, "podman", "tag", image, "localhost/late")
		(<-a).must(h)
		h.Asleep()
	})
}

// Podman was killed, or the power failed, and its files are left, with a pid
// that is another process by now and a container that is gone.
func TestLeftovers(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if h.UserManager { // else nobody has one
			h.PutFile(h.RuntimeDir+"/app.pid", h.Must(t, "sh", "-c", "echo $$")+"\n")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		if strings.Contains(h.Property("app.service", "ExecStart"), "--cidfile") { // not with Quadlet 5.8
			h.PutFile(h.RuntimeDir+"/app.cid", strings.Repeat("0123456789abcdef", 4))
		}
		h.MustGet()
		h.Asleep()
	})
}

// Clients wait for as long as the image takes, over a daemon-reload too, and
// share the start.
func TestSlowStart(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		g := newGate(h, "app.service", "ExecStartPre")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=2s")
		a, b := background(h), background(h)
		waitStage(h, "app.service", "start-pre")
		h.Reload()
		c := background(h)
		h.Wait("all three wait", func() bool { return backlog(h) == 3 })
		g.open()
		if x, y, z := (<-a).must(h), (<-b).must(h), (<-c).must(h); x != y || y != z {
			t.Errorf("more than one start: %s %s %s", x, y, z)
		}
		h.Asleep()
	})
}

// A client that left during the cold start holds nothing up and is no error.
func TestClientGone(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		g := newGate(h, "app.service", "ExecStartPost")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		waitStage(h, "app.service", "start-post")
		h.Wait("the app can be stopped", func() bool { return contains(h, "app.service", "listening") }, "app.service")
		abort(c)
		g.open()
		h.Wait("the proxy has run", func() bool { return h.Property("app-proxy.service", "ActiveEnterTimestampMonotonic") != "0" })
		h.Asleep()
		if contains(h, "app-proxy.service", "turned away") {
			t.Error("a client that left is said to be turned away")
		}
		h.MustGet()
	})
}

// The proxy is stopped while the container starts: whoever waits starts it
// again.
func TestProxyStoppedDuringStart(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		g := newGate(h, "app.service", "ExecStartPre")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		a := background(h)
		waitStage(h, "app.service", "start-pre")
		// The waiting client may have it started again before it has stopped;
		// then systemd calls the stop cancelled.
		if out, err := h.Systemctl(t.Context(), "stop", "app-proxy.service"); err != nil && !strings.Contains(out.Stderr, "canceled") {
			t.Error(err)
		}
		g.open()
		(<-a).must(h)
		h.Asleep()
	})
}

// An app that resets connections while it starts loses none. It is one that
// speaks first: from a client who does, the app must not have taken a byte
// before the reset, which on a busy machine is chance (proxy/hold_test.go).
func TestResetsWhileStarting(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-greet :80 -resets 20", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		if n, err := io.ReadFull(c, make([]byte, 27)); err != nil {
			t.Errorf("read %d bytes, %v; want the start id\n%s", n, err, h.LastJournal())
		}
		c.Close()
		h.Asleep()
	})
}

// The reason is known also where journald has not looked for the unit of who told it
// before that one's end.
func TestReasonOfTheGone(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.Declare("app", "Image=localhost/none", "Pull=never", h.Publish(), "[ScaleToZero]")
		goesOn := stopJournal(h)
		_, err := h.Systemctl(t.Context(), "start", "app.service")
		goesOn()
		if err == nil {
			t.Fatal("it starts without an image")
		}
		h.Expect("app.service", "failed")
		out, _ := h.Session.Run(t.Context(), "zerolet", "status", "app") // which fails, as the service does
		if !strings.Contains(out.Stdout, "localhost/none: image not known") {
			t.Errorf("%s\n%s", out.Stdout, h.LastJournal())
		}
	})
}

// The container dies while the proxy asks it: the next one answers.
func TestDiesWhileDialled(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		env := filepath.Join(h.RuntimeDir, "delay")
		dropIn(h, "app.service", "[Service]", "EnvironmentFile="+env)
		h.PutFile(env, "DELAY=1h\n")
		h.App("app", "-http :80 -delay ${DELAY}", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		a := background(h)
		h.WaitState("app.service", "active")
		h.WaitState("app-proxy.service", "active")
		h.PutFile(env, "DELAY=0s\n")
		h.Must(t, "kill", "-9", containerPID(h))
		(<-a).must(h)
		h.Asleep()
	})
}

// Somebody else has the port: the socket takes it as soon as it is free.
func TestPortTaken(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		var l net.Listener
		err := h.M.Network(func() (err error) {
			l, err = net.Listen("tcp", fmt.Sprintf(":%d", h.Port))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("app.container", "[Container]\nImage="+image+"\nExec=-http :80\n"+h.Publish()+"\n[ScaleToZero]\nIdleTimeout=1s\n")
		h.Reload()
		h.Wait("systemd has given up for a while", func() bool { return contains(h, "app-proxy.socket", "too often recently") })
		l.Close()
		began := time.Now()
		h.WaitState("app-proxy.socket", "active")
		t.Logf("the socket listens %s after the port is free", time.Since(began).Round(time.Millisecond))
		h.MustGet()
		h.Asleep()
	})
}

// The power fails in the middle of a start, and while the container runs. The
// next boot brings the endpoint back.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		newGate(h, "app.service", "ExecStartPre")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.Connect()
		waitStage(h, "app.service", "start-pre")
	})
	for range 2 {
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := m.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		harness.Each(t, m, func(t *testing.T, h *harness.Host) {
			h.WaitState("app-proxy.socket", "active")
			h.Expect("app.service", "inactive")
			h.MustGet()
		})
	}
	harness.Each(t, m, func(_ *testing.T, h *harness.Host) { h.Asleep() })
}

// The runtime directory is full, so neither generator nor container can write.
// Nothing half written is left; with space there is an endpoint again.
func TestDiskFull(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		full := filepath.Join(h.RuntimeDir, "full")
		fill := func() { h.Must(t, "sh", "-c", "! cat /dev/zero >"+full) }
		h.M.Root().Must(t, "mount", "-o", "remount,size=64M", h.RuntimeDir)
		fill()
		a := background(h)
		h.Wait("a start has failed", func() bool { return contains(h, "app.service", "Failed to start") })
		h.Must(t, "rm", full)
		(<-a).must(h)
		h.Asleep()

		fill()
		if _, err := h.Systemctl(t.Context(), "daemon-reload"); err != nil {
			h.Expect("app-proxy.socket", "active") // systemd refuses to reload, and all is as it was
		}
		unit, err := os.ReadFile(h.M.Host(filepath.Join(h.GeneratorDir, "app-proxy.socket")))
		if err == nil && !strings.Contains(string(unit), "TriggerLimitIntervalSec=0") {
			t.Errorf("a unit is cut off: %q", unit)
		}
		h.Must(t, "rm", full)
		h.Reload()
		h.WaitState("app-proxy.socket", "active")
		h.MustGet()
		h.Asleep()
	})
}

// A generator that is killed, fails or is slow takes no open connection with
// it, and the next daemon-reload with a good one brings everything back.
func TestGeneratorFails(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"killed": "kill -9 $$", "failing": "exit 1", "slow": `sleep 1; exec -a "$0" "$0".real "$@"`,
	} {
		t.Run(name, func(t *testing.T) {
			m := harness.Boot(t, lab.Options{})
			harness.Each(t, m, func(t *testing.T, h *harness.Host) {
				h.App("app", "-echo :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
				c := h.Connect()
				exchange(h, c, "before")
				const generator = "/usr/libexec/zerolet/zerolet-generator"
				root := m.Root()
				root.Must(t, "mv", generator, generator+".real")
				root.Must(t, "sh", "-c", "ln -sf zerolet-generator.real /usr/libexec/zerolet/zerolet-system-generator.real; ln -sf zerolet-generator.real /usr/libexec/zerolet/zerolet-user-generator.real")
				if err := root.Put(t.Context(), generator, "#!/bin/bash\n"+strings.ReplaceAll(script, `"$0".real`, generator+".real")+"\n"); err != nil {
					t.Fatal(err)
				}
				root.Must(t, "chmod", "755", generator)
				h.Reload()
				if _, err := os.Stat(h.M.Host(filepath.Join(h.GeneratorDir, "app-proxy.socket"))); (err == nil) != (name == "slow") {
					t.Errorf("the %s generator and its unit: %v", name, err)
				}
				exchange(h, c, "during")
				root.Must(t, "mv", generator+".real", generator)
				h.Reload()
				exchange(h, c, "after")
				h.WaitState("app-proxy.socket", "active")
				exchange(h, h.Connect(), "again")
			})
		})
	}
}

// An app that never listens: the client is reset after StartTimeout=, and the
// endpoint lives on.
func TestNeverListens(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :81", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "StartTimeout=2s", "[Service]", "TimeoutStartSec=1min")
		for range 2 {
			c := h.Connect()
			if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read %d bytes, %v; want a reset", n, err)
			}
			h.Asleep()
		}
	})
}
