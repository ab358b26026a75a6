// Package system tests zerolet in the lab: booted systemd, real Podman, real
// clients, as root and as a rootless user.
package system

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) { harness.Main(m) }

// From zero to one, back and again, by daemon-reload and requests alone.
func TestWakeAndSleep(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.Expect("app-proxy.socket", "active")
		h.Expect("app-proxy.service", "inactive")
		h.Expect("app.service", "inactive")

		c := h.Connect()
		first := h.MustGet()
		h.Expect("app.service", "active")
		if again := h.MustGet(); again != first {
			t.Errorf("another container answered while the first one ran: %s, then %s", first, again)
		}
		c.Close()
		h.Asleep()
		if second := h.MustGet(); second == first {
			t.Errorf("the container was not stopped: %s answered again", second)
		}
		h.Asleep()
	})
}

// No first request is lost however late the app listens. It ends by SIGTERM as
// many do, with status 143, and has not failed.
func TestLateApp(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -delay 3s -exit 143", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for range 2 {
			h.MustGet()
			h.Asleep()
		}
	})
}

// Clients that come together share one start.
func TestManyClientsOneStart(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -delay 300ms", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h")
		const clients = 50
		type answer struct {
			id  string
			err error
		}
		answers := make(chan answer, clients)
		for range clients {
			go func() {
				id, err := h.Get()
				answers <- answer{id, err}
			}()
		}
		ids := make(map[string]int)
		for range clients {
			a := <-answers
			if a.err != nil {
				t.Errorf("a client was not answered: %v", a.err)
			}
			ids[a.id]++
		}
		if len(ids) != 1 {
			t.Errorf("answers by start: %v, want one start", ids)
		}
	})
}

// [Install] of the file is the socket's: neither daemon-reload nor boot starts
// the container, and boot brings the socket back.
func TestInstallAndReboot(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "[Install]", "WantedBy=default.target")
		h.App("manual", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+1000), "[ScaleToZero]", "AutoStart=no")
		h.Control("start", "default.target")
		h.Expect("app-proxy.socket", "active")
		h.Expect("app.service", "inactive")
		h.Expect("manual-proxy.socket", "inactive")
	})
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.WaitState("app-proxy.socket", "active")
		h.Expect("app.service", "inactive")
		h.Expect("manual-proxy.socket", "inactive")
		if n := harness.Containers(t, h.Session); n != "" {
			t.Errorf("boot started a container: %s", n)
		}
		h.MustGet()
		h.Asleep()
	})
}

// A unit of the administrator's wins, and so does a mask.
func TestAdminWins(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile(filepath.Join(h.UnitDir, "own.service"), "[Service]\nExecStart=sleep infinity\n")
		h.App("own", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		path, err := h.Show(t.Context(), "own.service", "FragmentPath")
		if err != nil || path != filepath.Join(h.UnitDir, "own.service") {
			t.Errorf("own.service comes from %s: %v", path, err)
		}

		h.App("masked", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+1000), "[ScaleToZero]", "IdleTimeout=1s")
		h.Control("mask", "--now", "masked-proxy.socket")
		h.Expect("masked-proxy.socket", "inactive")
		h.Control("unmask", "masked-proxy.socket")
		h.WaitState("masked-proxy.socket", "active")
		h.Control("mask", "masked.service")
		h.Reload()
		for _, unit := range []string{"masked.service", "masked-proxy.socket"} {
			state, err := h.Show(t.Context(), unit, "LoadState")
			if err != nil || state == "loaded" {
				t.Errorf("%s is %s after mask: %v", unit, state, err)
			}
		}
	})
}

// A file with an error leaves the other endpoints working, is not run
// unscaled, and says what is wrong.
func TestBadFile(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile("bad.container", "[Container]\nImage=localhost/app\nPublishPort=8999:80\n[ScaleToZero]\nIdelTimeout=1s\n[Install]\nWantedBy=default.target\n")
		h.PutFile("junk.container", "[Container\nno assignment\n\x00[ScaleToZero]\n")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.MustGet()

		h.Control("start", "default.target")
		if state := h.State("bad.service"); state == "active" || state == "activating" {
			t.Errorf("bad.service is %s: it runs unscaled", state)
		}
		startWithSlowJournal(t, h, "bad.service")
		h.WaitFor(t, harness.Patience, "the journal of bad.service names the line", func() (bool, error) {
			text, err := h.Journal(t.Context(), "bad.service")
			return strings.Contains(text, "bad.container:5:1: error: unknown key IdelTimeout=") &&
				strings.Contains(text, "did you mean IdleTimeout=?"), err
		}, "bad.service")
		h.WaitFor(t, harness.Patience, "the generator tells the journal", func() (bool, error) {
			text, err := h.Journal(t.Context(), "")
			return strings.Contains(text, "zerolet-generator") && strings.Contains(text, "bad.container:5:1"), err
		})
		h.Control("reset-failed", "bad.service")
		h.Asleep()
	})
}

// startWithSlowJournal starts a unit that fails, while journald reads nothing
// until the unit has said something and waits to be heard, or has ended.
func startWithSlowJournal(t *testing.T, h *harness.Host, unit string) {
	t.Helper()
	journald := strings.TrimSpace(h.M.Root().Must(t, "systemctl", "show", "--value", "--property=MainPID", "systemd-journald.service"))
	h.M.Root().Must(t, "kill", "-STOP", journald)
	_, err := h.Systemctl(t.Context(), "start", "--no-block", unit)
	h.Wait(unit+" waits, or has ended", func() bool {
		sockets, _ := h.M.Root().Run(t.Context(), "ss", "--unix", "--processes", "--numeric", "--no-header", "state", "connected")
		return h.State(unit) == "failed" || waitsToBeHeard.MatchString(sockets.Stdout)
	})
	h.M.Root().Must(t, "kill", "-CONT", journald)
	if err != nil {
		t.Fatal(err)
	}
	h.WaitState(unit, "failed")
}

// waitsToBeHeard matches a socket of the command whose peer has something to read.
var waitsToBeHeard = regexp.MustCompile(`(?m)^u_str +ESTAB +[0-9]+ +[1-9][0-9]* .*"zerolet"`)

// systemd has nothing to say against any unit.
func TestVerify(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), fmt.Sprintf("PublishPort=127.0.0.1:%d:80", h.Port+1000), fmt.Sprintf("PublishPort=[::1]:%d:80", h.Port+1000),
			"[ScaleToZero]", "IdleTimeout=1h 30min", "[Install]", "WantedBy=default.target")
		verify(h)
	})
}

// verify expects nothing about the units of app from systemd.
func verify(h *harness.Host) { h.Helper(); verifyOf(h, "app") }

// verifyOf is verify for a service of any name, and others that belong to it.
func verifyOf(h *harness.Host, name string, others ...string) {
	h.Helper()
	// systemd-analyze 262 tells root so with each run: it sandboxes generators, and may not load libmount for it.
	const always = "Read-only bind remount failed, ignoring: Operation not supported"
	scope, units := "--system", []string{name + "-entry.socket", name + "-entry.service"}
	if h.UserManager {
		scope, units = "--user", []string{"zerolet-removed.path"}
	}
	for _, unit := range slices.Concat(units, []string{name + "-proxy.socket", name + "-proxy.service", name + ".service", "zerolet-removed.service"}, others) {
		out, err := h.Session.Run(h.Context(), "systemd-analyze", scope, "--generators=yes", "--man=no", "verify", unit)
		if text := strings.TrimSpace(strings.ReplaceAll(out.Stdout+out.Stderr, always, "")); err != nil || text != "" {
			h.Errorf("verify %s: %v\n%s", unit, err, text)
		}
	}
}

// Without a Quadlet on the machine the embedded one converts.
func TestWithoutQuadlet(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	m.Root().Must(t, "rm", "/usr/libexec/podman/quadlet")
	harness.Each(t, m, wakesTwice)
}

// Podman 4.3 has no Quadlet at all. In the lab its rootless units lose their
// container, with zerolet or without: it moves conmon to a scope of its own
// where the host lends cgroup v1 controllers. So this is tried as root.
func TestOldPodman(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{Suite: "bookworm"})
	wakesTwice(t, &harness.Host{T: t, Session: m.Root(), M: m, Port: 8080})
}

// The newest systemd and Podman. The long form is these packages with -suite=forky, as "make soak" runs them.
func TestForky(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T, *harness.Host){
		"TCP": wakesTwice,
		"UDP": datagrams,
		"Pod": func(t *testing.T, h *harness.Host) {
			h.PutFile("shop.pod.d/exit.conf", "[Pod]\nExitPolicy=stop\n") // which Podman 5.6 knows first
			wakesPod(t, h)
		},
		"Native": func(_ *testing.T, h *harness.Host) { native(h, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.Each(t, harness.Boot(t, lab.Options{Suite: "forky"}), test)
		})
	}
}

func wakesTwice(t *testing.T, h *harness.Host) {
	h.App("app", "-http :80 -delay 300ms", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
	first := h.MustGet()
	h.Asleep()
	if second := h.MustGet(); second == first {
		t.Errorf("the container was not stopped: %s answered again", second)
	}
	h.Asleep()
}
