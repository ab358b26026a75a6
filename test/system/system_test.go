// Package system tests zerolet in the lab: booted systemd, real Podman, real
// clients, as root and as a rootless user.
package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// patience bounds every wait for a condition; nothing is timed.
const patience = 60 * time.Second

var installed = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "zerolet-install-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("make", "-C", "../..", "install", "DESTDIR="+dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make install: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := installed(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// boot is a machine with zerolet installed.
func boot(t *testing.T, o lab.Options) *lab.Machine {
	t.Helper()
	m := lab.New(t, o)
	dir, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return m
}

// each runs a test as root and as the rootless user of one machine.
func each(t *testing.T, m *lab.Machine, test func(t *testing.T, h *host)) {
	for i, s := range m.Sessions() {
		t.Run(s.Name, func(t *testing.T) {
			test(t, &host{T: t, Session: s, m: m, port: 8080 + i})
		})
	}
}

// host is one manager under test. Both share the machine's network, so each
// has a port of its own.
type host struct {
	*testing.T
	*lab.Session
	m    *lab.Machine
	port int
}

// app declares app.container and reloads the manager. Lines are added after
// those of the image; sections may follow.
func (h *host) app(name, exec string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	text := []string{"[Container]", "Image=" + image, "Exec=" + exec}
	text = append(text, lines...)
	h.put(name+".container", strings.Join(text, "\n")+"\n")
	h.reload()
	if !slices.Contains(text, "AutoStart=no") {
		// daemon-reload returns before the job of Upholds= is done.
		h.waitState(name+"-proxy.socket", "active")
	}
}

func (h *host) put(path, text string) {
	h.Helper()
	if err := h.Put(h.Context(), path, text); err != nil {
		h.Fatal(err)
	}
}

func (h *host) reload() { h.Helper(); h.systemctl("daemon-reload") }

func (h *host) systemctl(args ...string) {
	h.Helper()
	if out, err := h.Systemctl(h.Context(), args...); err != nil {
		h.Fatalf("systemctl %s: %v\n%s%s", strings.Join(args, " "), err, out.Stdout, out.Stderr)
	}
}

func (h *host) publish() string { return fmt.Sprintf("PublishPort=%d:80", h.port) }

// get answers with what the app says: its start id.
func (h *host) get() (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", h.port), nil)
	if err != nil {
		return "", err
	}
	r, err := h.m.HTTP().Do(req)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return string(body), err
}

func (h *host) mustGet() string {
	h.Helper()
	id, err := h.get()
	if err != nil {
		h.Fatalf("request: %v\n%s", err, h.journal())
	}
	return id
}

func (h *host) journal() string {
	text, err := h.Journal(context.WithoutCancel(h.Context()), "")
	if err != nil {
		return err.Error()
	}
	if len(text) > 16000 {
		text = text[len(text)-16000:]
	}
	return text
}

func (h *host) state(unit string) string {
	state, err := h.Show(h.Context(), unit, "ActiveState")
	if err != nil {
		h.Fatal(err)
	}
	return state
}

func (h *host) expect(unit, state string) {
	h.Helper()
	if got := h.state(unit); got != state {
		h.Errorf("%s is %s, want %s\n%s", unit, got, state, h.journal())
	}
}

func (h *host) waitState(unit, state string) {
	h.Helper()
	h.WaitFor(h.T, patience, unit+" is "+state, func() (bool, error) { return h.state(unit) == state, nil }, unit)
}

// asleep waits until the idle container is gone and nothing of it is left.
func (h *host) asleep() {
	const name = "app"
	h.Helper()
	h.waitState(name+"-proxy.service", "inactive")
	h.waitState(name+".service", "inactive")
	h.expect(name+"-proxy.socket", "active")
	if left := h.Must(h.T, "podman", "ps", "--all", "--quiet"); left != "" {
		h.Errorf("containers are left: %s", left)
	}
	for _, suffix := range []string{".pid", ".cid"} {
		if _, err := os.Lstat(h.m.Host(filepath.Join(h.RuntimeDir, name+suffix))); !errors.Is(err, os.ErrNotExist) {
			h.Errorf("%s%s is left: %v", name, suffix, err)
		}
	}
	if failed, err := h.m.Failed(h.Context()); err != nil || len(failed) > 0 {
		h.Errorf("failed units: %v %v", failed, err)
	}
}

// From zero to one, back and again, by daemon-reload and requests alone.
func TestWakeAndSleep(t *testing.T) {
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.app("app", "-http :80", h.publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.expect("app-proxy.socket", "active")
		h.expect("app-proxy.service", "inactive")
		h.expect("app.service", "inactive")

		first := h.mustGet()
		h.expect("app.service", "active")
		if again := h.mustGet(); again != first {
			t.Errorf("another container answered while the first one ran: %s, then %s", first, again)
		}
		h.asleep()
		if second := h.mustGet(); second == first {
			t.Errorf("the container was not stopped: %s answered again", second)
		}
		h.asleep()
	})
}

// No first request is lost however late the app listens.
func TestLateApp(t *testing.T) {
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.app("app", "-http :80 -delay 3s", h.publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for range 2 {
			h.mustGet()
			h.asleep()
		}
	})
}

// Clients that come together share one start.
func TestManyClientsOneStart(t *testing.T) {
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.app("app", "-http :80 -delay 300ms", h.publish(), "[ScaleToZero]", "IdleTimeout=5s")
		const clients = 50
		type answer struct {
			id  string
			err error
		}
		answers := make(chan answer, clients)
		for range clients {
			go func() {
				id, err := h.get()
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
	m := boot(t, lab.Options{})
	each(t, m, func(t *testing.T, h *host) {
		h.app("app", "-http :80", h.publish(), "[ScaleToZero]", "IdleTimeout=1s", "[Install]", "WantedBy=default.target")
		h.app("manual", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.port+1000), "[ScaleToZero]", "AutoStart=no")
		h.systemctl("start", "default.target")
		h.expect("app-proxy.socket", "active")
		h.expect("app.service", "inactive")
		h.expect("manual-proxy.socket", "inactive")
	})
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	each(t, m, func(t *testing.T, h *host) {
		h.waitState("app-proxy.socket", "active")
		h.expect("app.service", "inactive")
		h.expect("manual-proxy.socket", "inactive")
		if n := h.Must(t, "podman", "ps", "--all", "--quiet"); n != "" {
			t.Errorf("boot started a container: %s", n)
		}
		h.mustGet()
		h.asleep()
	})
}

// A unit of the administrator's wins, and so does a mask.
func TestAdminWins(t *testing.T) {
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.put(filepath.Join(h.UnitDir, "own.service"), "[Service]\nExecStart=sleep infinity\n")
		h.app("own", "-http :80", h.publish(), "[ScaleToZero]", "IdleTimeout=1s")
		path, err := h.Show(t.Context(), "own.service", "FragmentPath")
		if err != nil || path != filepath.Join(h.UnitDir, "own.service") {
			t.Errorf("own.service comes from %s: %v", path, err)
		}

		h.app("masked", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.port+1000), "[ScaleToZero]", "IdleTimeout=1s")
		h.systemctl("mask", "--now", "masked-proxy.socket")
		h.expect("masked-proxy.socket", "inactive")
		h.systemctl("unmask", "masked-proxy.socket")
		h.waitState("masked-proxy.socket", "active")
		h.systemctl("mask", "masked.service")
		h.reload()
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
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.put("bad.container", "[Container]\nImage=localhost/app\nPublishPort=8999:80\n[ScaleToZero]\nIdelTimeout=1s\n[Install]\nWantedBy=default.target\n")
		h.put("junk.container", "[Container\nno assignment\n\x00[ScaleToZero]\n")
		h.app("app", "-http :80", h.publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.mustGet()

		h.systemctl("start", "default.target")
		if state := h.state("bad.service"); state == "active" || state == "activating" {
			t.Errorf("bad.service is %s: it runs unscaled", state)
		}
		if out, err := h.Systemctl(t.Context(), "start", "bad.service"); err == nil {
			t.Errorf("starting bad.service succeeded: %s", out.Stdout)
		}
		h.WaitFor(t, patience, "the journal of bad.service names the line", func() (bool, error) {
			text, err := h.Journal(t.Context(), "bad.service")
			return strings.Contains(text, "bad.container:5:1: error: unknown key IdelTimeout=") &&
				strings.Contains(text, "did you mean IdleTimeout=?"), err
		}, "bad.service")
		h.WaitFor(t, patience, "the generator tells the journal", func() (bool, error) {
			text, err := h.Journal(t.Context(), "")
			return strings.Contains(text, "zerolet-generator") && strings.Contains(text, "bad.container:5:1"), err
		})
		h.systemctl("reset-failed", "bad.service")
		h.asleep()
	})
}

// systemd has nothing to say against any unit.
func TestVerify(t *testing.T) {
	each(t, boot(t, lab.Options{}), func(t *testing.T, h *host) {
		h.app("app", "-http :80", h.publish(), fmt.Sprintf("PublishPort=127.0.0.1:%d:80", h.port+1000), fmt.Sprintf("PublishPort=[::1]:%d:80", h.port+1000),
			"[ScaleToZero]", "IdleTimeout=1h 30min", "[Install]", "WantedBy=default.target")
		scope := "--system"
		if h.UserManager {
			scope = "--user"
		}
		for _, unit := range []string{"app-proxy.socket", "app-proxy.service", "app.service"} {
			out, err := h.Session.Run(t.Context(), "systemd-analyze", scope, "--generators=yes", "verify", unit)
			if text := out.Stdout + out.Stderr; err != nil || strings.TrimSpace(text) != "" {
				t.Errorf("verify %s: %v\n%s", unit, err, text)
			}
		}
	})
}

// Without a Quadlet on the machine the embedded one converts.
func TestWithoutQuadlet(t *testing.T) {
	m := boot(t, lab.Options{})
	m.Root().Must(t, "rm", "/usr/libexec/podman/quadlet")
	each(t, m, wakesTwice)
}

// Podman 4.3 has no Quadlet at all. In the lab its rootless units lose their
// container, with zerolet or without: it moves conmon to a scope of its own
// where the host lends cgroup v1 controllers. So this is tried as root.
func TestOldPodman(t *testing.T) {
	m := boot(t, lab.Options{Suite: "bookworm"})
	wakesTwice(t, &host{T: t, Session: m.Root(), m: m, port: 8080})
}

func wakesTwice(t *testing.T, h *host) {
	h.app("app", "-http :80 -delay 300ms", h.publish(), "[ScaleToZero]", "IdleTimeout=1s")
	first := h.mustGet()
	h.asleep()
	if second := h.mustGet(); second == first {
		t.Errorf("the container was not stopped: %s answered again", second)
	}
	h.asleep()
}
