package reliability

import (
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// applied is what zerolet apply has said.
type applied struct {
	stdout, stderr string
	err            error
}

func apply(h *harness.Host, args ...string) <-chan applied {
	done := make(chan applied, 1)
	go func() {
		out, err := h.Session.Run(h.Context(), append([]string{"zerolet", "apply"}, args...)...)
		done <- applied{out.Stdout, out.Stderr, err}
	}()
	return done
}

func (a applied) must(h *harness.Host) string {
	h.Helper()
	if a.err != nil {
		h.Fatalf("zerolet apply: %v\n%s%s\n%s", a.err, a.stdout, a.stderr, h.LastJournal())
	}
	return a.stdout
}

// onlyRefused fails the test if a request was lost that the kernel had queued: one
// that comes while no socket listens is refused, and tries again.
func onlyRefused(h *harness.Host, what string, stop func() (int, time.Duration, []error)) {
	h.Helper()
	n, worst, errs := stop()
	for _, err := range errs {
		if !errors.Is(err, syscall.ECONNREFUSED) {
			h.Errorf("%s: a request was lost: %v\n%s", what, err, h.LastJournal())
			break
		}
	}
	h.Logf("%s: %d requests, %d refused while nobody listened, worst wait %s", what, n, len(errs), worst.Round(time.Millisecond))
}

// A file is renamed under traffic, while a client is connected: the new name
// listens at once, who is connected has time to end, and the new container does
// not start before the old one is gone.
func TestRenamed(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -echo :81", withEcho(h, "1s")...)
		both := path.Join(h.RuntimeDir, "both")
		dropIn(h, "new.service", "[Service]", "ExecStartPre=sh -c 'if podman ps | grep -w systemd-app; then touch "+both+"; fi'")
		// Whoever is connected is not cut off before the test has looked, however slow the machine is.
		proxy := h.Must(t, "sed", "-n", "s/^ExecStart=\\(.*\\)--drain-timeout=10s/\\1--drain-timeout=10m/p", path.Join(h.GeneratorDir, "app-proxy.service"))
		dropIn(h, "app-proxy.service", "[Service]", "ExecStart=", "ExecStart="+proxy)
		h.Reload()
		c := underWay(h)
		h.WaitConnected("app", 1)
		stop := traffic(h, 2)
		h.Must(t, "mv", path.Join(h.QuadletDir, "app.container"), path.Join(h.QuadletDir, "new.container"))
		done := apply(h)
		h.WaitState("new-proxy.socket", "active")
		exchange(h, c, "meanwhile")
		c.Close()
		said := (<-done).must(h)
		if want := "- app: is not declared any more: stops ("; !strings.Contains(said, want) || strings.Contains(said, " 0 connection") {
			t.Errorf("zerolet apply says\n%s", said)
		}
		onlyRefused(h, "renamed", stop)
		for _, unit := range []string{"app-proxy.socket", "app-proxy.service", "app.service"} {
			h.Expect(unit, "inactive")
		}
		c = underWay(h)
		h.MustGet()
		h.Expect("new.service", "active")
		if left := h.Must(t, "podman", "ps", "--format", "{{.Names}}"); left != "systemd-new" {
			t.Errorf("containers: %s", left)
		}
		c.Close()
		if _, err := h.Session.Run(t.Context(), "test", "-e", both); err == nil {
			t.Error("the new container has started beside the old one")
		}
	})
}

// Two files swap their ports under traffic. While one is in use nothing is done,
// unless it is said.
func TestSwapped(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		ports := []int{h.Port, h.Port + 10}
		declare := func() {
			for i, name := range []string{"app", "other"} {
				h.PutFile(name+".container", fmt.Sprintf("[Container]\nImage=localhost/app\nExec=-greet :80\nPublishPort=%d:80\n[ScaleToZero]\nIdleTimeout=1s\n", ports[i]))
			}
		}
		if _, err := h.AppImage(t.Context()); err != nil {
			t.Fatal(err)
		}
		declare()
		(<-apply(h)).must(h)
		c := h.Connect()
		id := greeting(h, c)
		h.WaitConnected("app", 1)
		ports[0], ports[1] = ports[1], ports[0]
		declare()
		if got := <-apply(h); got.err == nil || got.stdout != "" ||
			!strings.Contains(got.stderr, fmt.Sprintf("app has 1 connection open, and other is to listen on %d: nothing was done\nhint: zerolet apply --now", h.Port)) {
			t.Errorf("zerolet apply: %v\n%s%s", got.err, got.stdout, got.stderr)
		}
		if again := greeting(h, h.Connect()); again != id {
			t.Errorf("%s answers in the place of %s", again, id)
		}
		h.Must(t, "zerolet", "status") // all listen as before
		(<-apply(h, "--now")).must(h)
		if again := greeting(h, h.ConnectTo(h.Port+10)); again == id {
			t.Error("app was not restarted")
		}
		greeting(h, h.Connect())
		h.Must(t, "zerolet", "status")
	})
}

// A key has somebody else keep the container up than the proxy that runs, so that a reload
// stops it. While it is in use nothing is done, unless it is said. Who comes then is
// served.
func TestKeyThatLetsGo(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		declare := func(keys string) {
			h.PutFile("app.container", fmt.Sprintf("[Container]\nImage=localhost/app\nExec=-greet :80\nPublishPort=%d:80\n[ScaleToZero]\nIdleTimeout=1h\n%s", h.Port, keys))
		}
		if _, err := h.AppImage(t.Context()); err != nil {
			t.Fatal(err)
		}
		declare("")
		(<-apply(h)).must(h)
		c := h.Connect()
		id := greeting(h, c)
		h.WaitConnected("app", 1)
		declare("Probe=/up\n")
		if got := <-apply(h); got.err == nil || got.stdout != "" ||
			!strings.Contains(got.stderr, "app has 1 connection open, and its container stops when the files are read: nothing was done\nhint: zerolet apply --now") {
			t.Errorf("zerolet apply: %v\n%s%s", got.err, got.stdout, got.stderr)
		}
		if again := greeting(h, h.Connect()); again != id {
			t.Errorf("%s answers in the place of %s", again, id)
		}
		if said := (<-apply(h, "--now")).must(h); !strings.Contains(said, "~ app: has other settings: stops, and wakes with them") {
			t.Errorf("zerolet apply says\n%s", said)
		}
		if again := greeting(h, h.Connect()); again == id {
			t.Error("app was not restarted")
		}

		declare("")
		(<-apply(h, "--now")).must(h)
		c = h.Connect()
		id = greeting(h, c)
		h.WaitConnected("app", 1)
		c.Close()
		declare("Probe=/up\n")
		h.WaitConnected("app", 0)
		(<-apply(h)).must(h)
		if again := greeting(h, h.Connect()); again == id {
			t.Error("app was not restarted")
		}
	})
}

// greeting is what the app says first: its start id.
func greeting(h *harness.Host, c net.Conn) string {
	h.Helper()
	id := make([]byte, 27)
	if _, err := io.ReadFull(c, id); err != nil {
		h.Fatalf("%v\n%s", err, h.LastJournal())
	}
	return string(id)
}

// What a file that is gone leaves behind after a plain reload: nobody listens for
// who sleeps, and who is awake goes on until it sleeps.
func TestDeleted(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		for _, name := range []string{"app", "other"} {
			port := map[string]int{"app": h.Port, "other": h.Port + 10}[name]
			h.App(name, "-http :80 -greet :81", fmt.Sprintf("PublishPort=%d:80", port), fmt.Sprintf("PublishPort=%d:81", port+20), "[ScaleToZero]", "IdleTimeout=1s")
		}
		c := h.ConnectTo(h.Port + 20)
		id := greeting(h, c)
		h.Must(t, "rm", path.Join(h.QuadletDir, "app.container"), path.Join(h.QuadletDir, "other.container"))
		h.Reload()
		if again := greeting(h, h.ConnectTo(h.Port+20)); again != id {
			t.Errorf("%s answers in the place of %s", again, id)
		}
		refused := func(port int) bool {
			_, err := h.M.Dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
			return errors.Is(err, syscall.ECONNREFUSED)
		}
		if !refused(h.Port + 10) {
			t.Error("somebody listens in the place of a service that is gone")
		}
		c.Close()
		(<-apply(h)).must(h)
		if !refused(h.Port) {
			t.Error("somebody listens in the place of a service that was stopped")
		}
		h.Expect("app.service", "inactive")
	})
}
