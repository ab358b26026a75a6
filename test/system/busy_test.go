package system

import (
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
		c := h.Connect()
		h.MustGet()
		h.Must(t, "podman", "exec", "--detach", "systemd-app", "/app", "-work")
		c.Close()
		ends := func() time.Time { return wire.ParseStatus(h.Property("app-proxy.service", "StatusText")).Ends }
		h.Wait("the idle time runs", func() bool { return !ends().IsZero() })
		first, woken := ends(), h.Property("app.service", "InvocationID")
		h.Wait("it was over twice", func() bool { return ends().After(first.Add(5 * time.Second)) }, "app-proxy.service")
		if h.Property("app.service", "InvocationID") != woken {
			t.Errorf("another container: it slept while it worked\n%s", h.LastJournal())
		}
		h.Must(t, "sh", "-c", "kill $(pgrep -fx '/app -work')")
		h.Asleep()
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
