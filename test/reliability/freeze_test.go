package reliability

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// whileFrozen is what may happen to a frozen service. Afterwards it sleeps, or is to be put to sleep.
type whileFrozen struct {
	name string
	test func(h *harness.Host, id string)
}

func whilesFrozen() []whileFrozen {
	return []whileFrozen{
		{"Stop", stopFrozen},
		{"Restart", restartFrozen},
		{"Reload", reloadFrozen},
		{"ManagerReloads", managerReloadsWhileFrozen},
		{"Upgrade", upgradeWhileFrozen},
		{"ProxyDies", proxyDiesWhileFrozen},
		{"EntryDies", entryDiesWhileFrozen},
		{"EntryRests", entryRests},
		{"AppDies", appDiesWhileFrozen},
		{"OutOfMemory", outOfMemoryWhileFrozen},
		{"OutOfMemoryAtThaw", outOfMemoryAtThaw},
		{"Thaw", thawByHand},
		{"Exec", execWhileFrozen},
		{"HealthCheck", checkWhileFrozen},
		{"Remove", removeFrozen},
		{"TryRestart", tryRestartFrozen},
	}
}

// Nothing finds a frozen container stuck, and its app gets SIGTERM first, whatever stops it.
func TestFrozenFaults(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	declare := func(h *harness.Host) {
		h.App("app", "-http :80 -farewell", h.Publish(), `HealthCmd=["/app","-exists","/app"]`, "HealthInterval=1h",
			"[Service]", "ExecReload=podman exec systemd-app /app -exists /app",
			"[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze", "StopAfter=infinity")
	}
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		declare(h)
		for _, fault := range whilesFrozen() {
			t.Run(fault.name, func(t *testing.T) {
				h := &harness.Host{T: t, Session: h.Session, M: h.M, Port: h.Port}
				id := h.MustGet()
				h.Frozen("app")
				fault.test(h, id)
				h.MustGet() // nobody is lost
				h.WaitConnected("app", 0)
				h.Must(t, "zerolet", "sleep", "app")
				h.Asleep()
			})
		}
		h.MustGet()
		h.Frozen("app")
	})
	ended := make(map[string]int)
	for _, s := range m.Sessions() {
		h := &harness.Host{T: t, Session: s, M: m}
		ended[s.Name] = terms(h)
	}
	// It is frozen when the machine goes down.
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.WaitState("app-proxy.socket", "active")
		h.WaitJournal("app.service", "farewell", ended[h.Name]+1)
		h.MustGet()
		h.Frozen("app")
		h.Must(t, "zerolet", "sleep", "app")
		h.Asleep()
	})
}

// terms is how many apps have had SIGTERM: they say so.
func terms(h *harness.Host) int { h.Helper(); return said(h, "app.service", "farewell") }

// said is how often a unit has said something so far.
func said(h *harness.Host, unit, text string) int {
	h.Helper()
	h.SyncJournal()
	journal, err := h.Journal(h.Context(), unit)
	if err != nil {
		h.Fatal(err)
	}
	return strings.Count(journal, text)
}

// hasTerm waits until one more app has had SIGTERM than before.
func hasTerm(h *harness.Host, before int) {
	h.Helper()
	h.Wait("the app has had SIGTERM", func() bool { return terms(h) > before }, "app.service")
}

// same fails unless the app that was frozen answers.
func same(h *harness.Host, id string) {
	h.Helper()
	if now := h.MustGet(); now != id {
		h.Errorf("%s has answered, not %s\n%s", now, id, h.LastJournal())
	}
}

func stopFrozen(h *harness.Host, _ string) {
	before := terms(h)
	h.Control("stop", "app.service")
	hasTerm(h, before)
	h.Asleep()
}

func restartFrozen(h *harness.Host, _ string) {
	before := terms(h)
	h.Control("restart", "app.service")
	hasTerm(h, before)
}

func reloadFrozen(h *harness.Host, id string) {
	h.Control("reload", "app.service")
	h.Frozen("app")
	same(h, id)
}

func managerReloadsWhileFrozen(h *harness.Host, id string) {
	h.Control("daemon-reload")
	h.Frozen("app")
	h.Control("daemon-reexec")
	h.WaitManager()
	h.WaitState("app-proxy.socket", "active")
	h.Frozen("app")
	same(h, id)
}

func upgradeWhileFrozen(h *harness.Host, id string) {
	harness.Install(h.T, h.M)
	h.Control("daemon-reload")
	h.Frozen("app")
	same(h, id)
}

// The unit of a proxy that has died thaws the container, and the next proxy finds it awake.
func proxyDiesWhileFrozen(h *harness.Host, id string) {
	writes := h.WatchFreezer("app.service") // a slow test may find it frozen again
	h.Must(h.T, "kill", "-9", h.Property("app-proxy.service", "MainPID"))
	h.Wait("the container is thawed", func() bool { return len(writes()) > 0 }, "app-proxy.service")
	same(h, id)
}

// What the entry has passed works without it.
func entryDiesWhileFrozen(h *harness.Host, id string) {
	if h.UserManager {
		h.Skip("a user's proxy has none")
	}
	h.Must(h.T, "kill", "-9", h.Property("app-entry.service", "MainPID"))
	same(h, id)
	h.WaitState("app-entry.service", "failed")
	h.Control("reset-failed", "app-entry.service")
}

// The entry tells systemd that it is there only while somebody may need it.
func entryRests(h *harness.Host, id string) {
	if h.UserManager {
		h.Skip("a user's proxy has none")
	}
	watched := func(want string) {
		h.Helper()
		h.Wait("systemd waits for the entry for "+want, func() bool { return h.Property("app-entry.service", "WatchdogUSec") == want }, "app-entry.service")
	}
	watched("1h")
	c := h.Connect()
	same(h, id)
	watched("30s")
	c.Close()
	h.Frozen("app")
	watched("1h")
}

// Nothing starts the container anew before somebody comes.
func appDiesWhileFrozen(h *harness.Host, _ string) {
	h.M.Root().Must(h.T, "kill", "-9", containerPID(h))
	killed(h)
}

// killed waits until the proxy has gone after its container, which has failed.
func killed(h *harness.Host) {
	h.Helper()
	h.WaitState("app-proxy.service", "inactive")
	h.WaitState("app.service", "failed")
}

// Somebody else's thaw counts as a use: the container is not frozen again at once.
func thawByHand(h *harness.Host, id string) {
	before := h.Property("app-proxy.service", "StatusText")
	noticed := func() int { return said(h, "app-proxy.service", "app.service is thawed by somebody else") }
	others := noticed()
	h.Must(h.T, "sh", "-c", `echo 0 >"$(echo "$1"/libpod-payload-*)"/cgroup.freeze`, "sh", h.Cgroup("app.service"))
	h.Wait("the proxy takes it for a use", func() bool { return noticed() > others }, "app-proxy.service")
	h.Wait("it is frozen anew", func() bool {
		now := h.Property("app-proxy.service", "StatusText")
		return now != before && strings.Contains(now, " frozen=")
	}, "app-proxy.service")
	same(h, id)
}

// Podman says that it is paused, and goes on with what else it is asked.
func execWhileFrozen(h *harness.Host, id string) {
	exec := []string{"podman", "exec", "systemd-app", "/app", "-exists", "/app"}
	if out, err := h.Session.Run(h.Context(), exec...); err == nil || !strings.Contains(out.Stderr, "paused") {
		h.Errorf("podman exec: %v: %s", err, out.Stderr)
	}
	h.Must(h.T, "podman", "ps")
	h.Must(h.T, "podman", "inspect", "systemd-app")
	h.Must(h.T, "zerolet", "wake", "app")
	same(h, id)
}

func checkWhileFrozen(h *harness.Host, id string) {
	check := []string{"podman", "healthcheck", "run", "systemd-app"}
	if out, err := h.Session.Run(h.Context(), check...); err == nil {
		h.Errorf("healthy: %s", out.Stdout)
	}
	h.Must(h.T, "podman", "ps")
	c := h.Connect()
	same(h, id)
	h.Must(h.T, check...)
	c.Close()
}

// Nothing of zerolet's runs while an app is frozen, nor does the app. A window is long enough for one tick of any that
// there was. What Go's runtime does in each of two processes once a minute (sysmon() in runtime/proc.go) cannot be in
// all of three, nor can what is left to be done after the freeze.
func TestFrozenUsesNoProcessor(t *testing.T) {
	if !*soak {
		t.Skip("it takes minutes: -soak")
	}
	const window, windows = 18 * time.Second, 10
	t.Parallel()
	harness.EachAtOnce(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -udp :80", h.Publish(), h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze")
		h.MustGet()
		h.Frozen("app")
		units := []string{"app-proxy.service", "app.service/libpod-payload-*"}
		if !h.UserManager {
			units = append(units, "app-entry.service")
		}
		before := usedBy(h, units)
		for range windows {
			time.Sleep(window) // the measure, not a wait
			now := usedBy(h, units)
			t.Logf("microseconds in %s: %v", window, now)
			if slices.Equal(now, before) {
				return
			}
			before = now
		}
		t.Errorf("in each of %d windows of %s something has run", windows, window)
	})
}

// usedBy is how much processor time units have taken so far, or a part of one.
func usedBy(h *harness.Host, units []string) (all []string) {
	h.Helper()
	for _, unit := range units {
		unit, part, _ := strings.Cut(unit, "/")
		all = append(all, h.Must(h.T, "sh", "-c", `sed -n 's/^usage_usec //p' "$1"/$2/cpu.stat`, "sh", h.Cgroup(unit), part))
	}
	return all
}

// Who removes the container behind systemd's back finds it frozen: Podman waits for as long as StopTimeout= and
// then kills it. Nothing is stuck.
func removeFrozen(h *harness.Host, _ string) {
	h.Must(h.T, "podman", "rm", "--force", "--time=1", "systemd-app")
	killed(h)
}

// So does podman auto-update (pkg/autoupdate/autoupdate.go).
func tryRestartFrozen(h *harness.Host, _ string) {
	before := terms(h)
	h.Control("try-restart", "app.service")
	hasTerm(h, before)
}
