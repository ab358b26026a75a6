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
	"github.com/zerolet/zerolet/test/lab"
)

// hostPID is a process of the machine as the host counts it, so that it can be
// stopped from outside: process 1 of a machine takes no SIGSTOP from inside.
func hostPID(h *harness.Host, pid string) (int, error) {
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
			return strconv.Atoi(ids[0])
		}
	}
	return 0, fmt.Errorf("no process %s", pid)
}

func signal(h *harness.Host, pid int, s syscall.Signal) {
	h.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		h.Fatal(err)
	}
}

// processState is the letter that /proc has for a process of the host, such as
// T for a stopped one and Z for one that has ended and nobody has taken note.
// It is empty for one that is gone.
func processState(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(stat), ") ") // proc_pid_stat(5)
	state, _, found := strings.Cut(rest, " ")
	if err != nil || !found {
		return ""
	}
	return state
}

// freeze stops a process of the host and waits until it has stopped. It answers
// false if the process had ended before.
func freeze(h *harness.Host, pid int) bool {
	h.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return false
	}
	h.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // a failed test leaves nothing stopped
	state := ""
	h.Wait("the process has stopped or ended", func() bool {
		state = processState(pid)
		return state == "T" || state == "Z" || state == ""
	})
	return state == "T"
}

// freezeIdleProxy serves a client and stops the proxy when it has none any more
// and its idle time is not over yet. A machine so slow that the proxy ends
// before is given another try.
func freezeIdleProxy(h *harness.Host) (pid int) {
	h.Helper()
	for range 20 {
		h.MustGet()
		main := h.Property("app-proxy.service", "MainPID")
		if main == "0" {
			continue
		}
		pid, err := hostPID(h, main)
		if err == nil && freeze(h, pid) && h.Property("app-proxy.service", "MainPID") == main {
			return pid
		}
	}
	h.Fatal("the proxy has always ended before it could be stopped")
	return 0
}

// The client comes while the proxy is stopped and its idle time runs out: when
// it goes on, it meets both at once, at the edge between its last accept and
// its exit.
func TestConnectAtIdleEdge(t *testing.T) { each(t, connectAtIdleEdge) }

// The short form of what "make soak" does to the newest systemd and Podman.
func TestConnectAtIdleEdgeOnForky(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Suite: "forky"}), connectAtIdleEdge)
}

func connectAtIdleEdge(_ *testing.T, h *harness.Host) {
	h.Helper()
	const idle = 2 * time.Second
	h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout="+idle.String())
	proxy := freezeIdleProxy(h)
	frozen := time.Now()
	a := background(h)
	h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
	time.Sleep(time.Until(frozen.Add(idle))) // what is waited for is the idle time itself
	signal(h, proxy, syscall.SIGCONT)
	(<-a).must(h)
	h.Asleep()
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
		busy := h.Connect() // the idle time begins when the manager has been stopped
		h.MustGet()
		manager := "1"
		if h.UserManager {
			manager = h.M.Root().Must(t, "systemctl", "show", "--property=MainPID", "--value", "user@1000.service")
		}
		proxy, err := hostPID(h, h.Property("app-proxy.service", "MainPID"))
		if err != nil {
			t.Fatal(err)
		}
		systemd, err := hostPID(h, manager)
		if err != nil {
			t.Fatal(err)
		}
		if !freeze(h, systemd) {
			t.Fatal("the manager has ended")
		}
		abort(busy)
		h.Wait("the proxy has ended", func() bool { return processState(proxy) == "Z" })
		a := background(h)
		h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
		signal(h, systemd, syscall.SIGCONT)
		(<-a).must(h)
		h.Asleep()
	})
}

// The client comes while the container stops: it waits for the next one.
func TestConnectWhileStopping(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		g := newGate(h, "app.service", "ExecStopPost")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=300ms")
		first := h.MustGet()
		waitStage(h, "app.service", "stop-post")
		a := background(h)
		h.WaitState("app-proxy.service", "inactive")
		h.Wait("the client is in the backlog", func() bool { return backlog(h) > 0 })
		g.open()
		if id := (<-a).must(h); id == first {
			t.Error("a container that was being stopped answered")
		}
		h.Asleep()
	})
}

// The same where a user's proxy is up for clients who may not come: a container
// that was started by hand stops, for nobody needs it, when one comes who may. By
// default systemd orders a target after what it pulls in (systemd.target(5)),
// but not after this one.
func TestAllowedWhileStopping(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if !h.UserManager {
			t.Skip("the system's manager starts no proxy for who may not come")
		}
		g := newStopGate(h, "app.service")
		h.App("app", "-http :80", h.Publish(), "[Unit]", "DefaultDependencies=no", "[ScaleToZero]", "IdleTimeout=10min", "AllowFrom=127.0.0.1")
		h.Control("start", "app-proxy.service") // as anybody can
		h.Control("start", "app.service")
		waitStage(h, "app.service", "stop")
		a := backgroundPath(h, "/sleep?for=1s")
		waitStartWaits(h, "app-wake.target")
		g.open()
		(<-a).must(h)
		h.Control("stop", "app-proxy.service")
		h.Asleep()
	})
}

// Wakes are no failures: however fast they follow each other, no start limit
// and no rate limit holds one back. The bursts are small so that a slow machine
// would exceed them too: a limit is either off or met at the second wake.
func TestWakesAreNotLimited(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app-proxy.socket", "[Socket]", "TriggerLimitBurst=1")
		dropIn(h, "app-proxy.service", "[Unit]", "StartLimitBurst=1")
		units := []string{"app.service"}
		if !h.UserManager {
			units = append(units, "app-entry.socket", "app-entry.service")
		}
		for _, unit := range units {
			dropIn(h, unit, "[Unit]", "StartLimitBurst=1")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=100ms")
		listening := h.Property("app-proxy.socket", "InvocationID")
		var worst time.Duration
		starts := make(map[string]bool)
		for range 20 {
			began := time.Now()
			starts[h.MustGet()] = true
			worst = max(worst, time.Since(began))
			h.WaitState("app-proxy.service", "inactive")
		}
		if h.Property("app-proxy.socket", "InvocationID") != listening {
			t.Errorf("the socket was closed\n%s", h.LastJournal())
		}
		t.Logf("%d starts for 20 wakes, worst wait %s", len(starts), worst.Round(time.Millisecond))
		for _, unit := range units {
			if contains(h, unit, "repeated too quickly") || contains(h, unit, "upholds it, but not starting") || contains(h, unit, "start-limit-hit") {
				t.Errorf("a wake was held back by %s:\n%s", unit, h.LastJournal())
			}
		}
	})
}
