package reliability

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// hostPID is a process of the machine as the host counts it, so that it can be
// stopped from outside: process 1 of a machine takes no SIGSTOP from inside.
func hostPID(h *harness.Host, pid string) int {
	h.Helper()
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.M.Leader()))
	if err != nil {
		h.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		h.Fatal(err)
	}
	for _, dir := range all {
		if link, err := os.Readlink(dir + "/ns/pid"); err != nil || link != ns {
			continue
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(status), "NSpid:")
		line, _, _ := strings.Cut(rest, "\n")
		if ids := strings.Fields(line); len(ids) > 0 && ids[len(ids)-1] == pid {
			n, err := strconv.Atoi(ids[0])
			if err != nil {
				h.Fatal(err)
			}
			return n
		}
	}
	h.Fatalf("no process %s", pid)
	return 0
}

func signal(h *harness.Host, pid int, s syscall.Signal) {
	h.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		h.Fatal(err)
	}
}

// isZombie tells whether a process has ended and nobody has taken note.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(state, "Z")
}

// The client comes while the proxy is stopped and its idle time runs out: when
// it goes on, it meets both at once, at the edge between its last accept and
// its exit.
func TestConnectAtIdleEdge(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=300ms")
		h.MustGet()
		proxy := hostPID(h, h.Property("app-proxy.service", "MainPID"))
		signal(h, proxy, syscall.SIGSTOP)
		a := background(h, "/")
		h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
		// The idle time is over when the proxy goes on.
		h.Must(t, "sleep", "0.3")
		signal(h, proxy, syscall.SIGCONT)
		(<-a).must(h)
		h.Asleep()
	})
}

// backlog is how many connections wait to be accepted.
func backlog(h *harness.Host) int {
	h.Helper()
	n, err := strconv.Atoi(h.Must(h.T, "sh", "-c", fmt.Sprintf("ss -Htln sport = :%d | awk '{n+=$2} END{print n+0}'", h.Port)))
	if err != nil {
		h.Fatal(err)
	}
	return n
}

// The client comes between the proxy's exit and the container's stop job: the
// manager is stopped, so the proxy is a zombie and nobody has decided yet.
func TestConnectBeforeStopJob(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=500ms")
		h.MustGet()
		manager := "1"
		if h.UserManager {
			manager = h.M.Root().Must(t, "systemctl", "show", "--property=MainPID", "--value", "user@1000.service")
		}
		proxy := hostPID(h, h.Property("app-proxy.service", "MainPID"))
		systemd := hostPID(h, manager)
		signal(h, systemd, syscall.SIGSTOP)
		h.Wait("the proxy has ended", func() bool { return isZombie(proxy) })
		a := background(h, "/")
		h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
		signal(h, systemd, syscall.SIGCONT)
		(<-a).must(h)
		h.Asleep()
	})
}

// The client comes while the container stops: it waits for the next one.
func TestConnectWhileStopping(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		g := newGate(h, "ExecStopPost")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=300ms")
		first := h.MustGet()
		waitStage(h, "stop-post")
		a := background(h, "/")
		h.WaitState("app-proxy.service", "inactive")
		h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
		g.open()
		if id := (<-a).must(h); id == first {
			t.Error("a container that was being stopped answered")
		}
		h.Asleep()
	})
}

// Wakes are no failures: however fast they follow each other, no start limit
// and no rate limit holds one back.
func TestWakesAreNotLimited(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=100ms")
		var worst time.Duration
		starts := make(map[string]bool)
		for range 20 {
			began := time.Now()
			starts[h.MustGet()] = true
			worst = max(worst, time.Since(began))
			h.WaitState("app-proxy.service", "inactive")
		}
		t.Logf("%d starts for 20 wakes, worst wait %s", len(starts), worst.Round(time.Millisecond))
		if contains(h, "app.service", "repeated too quickly") || contains(h, "app.service", "upholds it, but not starting") {
			t.Errorf("a wake was held back:\n%s", h.LastJournal())
		}
	})
}
