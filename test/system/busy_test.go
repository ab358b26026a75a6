package system

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// A container that works without a client stays awake, one that does not sleeps.
func TestBusyCPU(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=3s", "BusyCPU=1%")
		_, err := h.GetPath("/work")
		if err != nil {
			t.Fatalf("%v\n%s", err, h.LastJournal())
		}
		outlasts(h, "app", 3*time.Second)
		if _, err := h.GetPath("/rest"); err != nil {
			t.Fatalf("%v\n%s", err, h.LastJournal())
		}
		h.Asleep()
	})
}

// outlasts waits until one and the same container has been awake for two idle times.
func outlasts(h *harness.Host, name string, idle time.Duration) {
	h.Helper()
	ends := func() time.Time { return wire.ParseStatus(h.Property(name+"-proxy.service", "StatusText")).Ends }
	h.Wait("the idle time runs", func() bool { return !ends().IsZero() })
	first, woken := ends(), h.Property(name+".service", "InvocationID")
	h.Wait("it was over twice", func() bool { return ends().After(first.Add(2*idle - time.Second)) }, name+"-proxy.service")
	if h.Property(name+".service", "InvocationID") != woken {
		h.Errorf("another container: it has slept\n%s", h.LastJournal())
	}
}

// Who is in a container by podman exec keeps it awake. A health check is in it, too, and
// does not, however long it takes.
func TestExecIsUse(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		const check = `HealthCmd=["/app","-delay","2h","-http",":82"]`
		// session has somebody be in a container while a client is there, until leave.
		session := func(t *testing.T, h *harness.Host, container string) (leave func()) {
			c := h.Connect()
			defer c.Close()
			h.MustGet()
			h.Must(t, "podman", "exec", "--detach", container, "/app", "-delay", "1h", "-http", ":81")
			return func() { h.Must(t, "pkill", "--full", "--exact", "/app -delay 1h -http :81") }
		}
		for _, test := range []struct {
			name, exec string
			lines      []string
		}{
			{"own network", "-http :80", []string{h.Publish(), check, "HealthInterval=1s", "[ScaleToZero]"}},
			{"host network", fmt.Sprintf("-http :%d", h.Port+1), []string{"Network=host", "[ScaleToZero]", fmt.Sprintf("Listen=%d:%d", h.Port, h.Port+1)}},
		} {
			t.Run(test.name, func(t *testing.T) {
				h := &harness.Host{T: t, Session: h.Session, M: h.M, Port: h.Port}
				h.App("app", test.exec, append(test.lines, "IdleTimeout=2s")...)
				h.Must(t, "zerolet", "apply") // the other one's socket is another
				leave := session(t, h, "systemd-app")
				outlasts(h, "app", 2*time.Second)
				if slices.Contains(test.lines, check) {
					h.Wait("the health check is there", func() bool {
						_, err := h.Session.Run(t.Context(), "pgrep", "--full", "--exact", "/app -delay 2h -http :82")
						return err == nil
					})
				}
				leave()
				h.Asleep()
			})
		}
		t.Run("pod", func(t *testing.T) {
			h := &harness.Host{T: t, Session: h.Session, M: h.M, Port: h.Port}
			h.Must(t, "rm", h.QuadletDir+"/app.container")
			podOf(h, "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=2s")
			leave := session(t, h, "systemd-shop-db")
			outlasts(h, "shop-pod", 2*time.Second)
			leave()
			podAsleep(h)
		})
	})
}

// When memory is short, who is idle sleeps at once. The kernel's file is replaced:
// to make memory short would be to make it short for the whole host.
func TestShortOfMemory(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	const file, pressure = "/run/pressure", "/sys/fs/cgroup/memory.pressure"
	root := m.Root()
	if text := root.Must(t, "cat", pressure); !strings.Contains(text, "some avg10=") {
		t.Skipf("the kernel does not tell: %s", text)
	}
	root.Must(t, "sh", "-c", "cp "+pressure+" "+file+" && mount --bind "+file+" "+pressure)
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h")
		c := h.Connect()
		h.MustGet()
		stalled := 0
		short := func() {
			stalled++
			root.Must(t, "sh", "-c", "echo some avg10=0.00 avg60=0.00 avg300=0.00 total=$(($(date +%s%N) / 1000)) >"+file)
		}
		for stalled < 20 {
			short()
		}
		h.Expect("app.service", "active")
		c.Close()
		h.Wait("it sleeps", func() bool {
			short()
			return h.State("app.service") == "inactive"
		}, "app-proxy.service")
		h.WaitJournal("app-proxy.service", "and memory is short", 1)
		h.Asleep()
	})
}
