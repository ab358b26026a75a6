package system

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// With Notify=healthy the container's start lasts until its health check passes. No
// client reaches the app before, although it listens, and none has to wait for the
// regular check to come again. An app that is healthy no more is killed as the file
// says, one that starts is not.
func TestHealthy(t *testing.T) {
	t.Parallel()
	harness.EachAtOnce(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		app := checked{h, h.Home + "/health"}
		h.Must(t, "mkdir", "-p", app.dir)
		check := []string{
			h.Publish(), "Volume=" + app.dir + ":/health", "Notify=healthy", `HealthCmd=["/app","-exists","/health/ok"]`,
		}
		declare := func(lines ...string) {
			h.App("app", "-http :80", slices.Concat(check, lines, []string{"[ScaleToZero]", "IdleTimeout=1s"})...)
		}
		late := []string{"HealthInterval=1h", "HealthRetries=1", "HealthOnFailure=kill"}

		declare(append(late, "ContainerName=my-%N", "GlobalArgs=--log-level=error")...)
		app.letsIn("app", "my-app")

		declare(late...)
		app.close()
		c := h.Connect()
		app.awaitChecks("app", "systemd-app")
		first := h.Property("app.service", "InvocationID")
		h.Control("restart", "--no-block", "app.service")
		h.Wait("the app starts anew", func() bool { return h.Property("app.service", "InvocationID") != first }, "app.service")
		app.awaitChecks("app", "systemd-app")
		h.Control("stop", "app-proxy.socket", "app-proxy.service", "app.service")
		c.Close()
		h.WaitState("app-healthy.service", "inactive")
		h.Control("start", "app-proxy.socket")
		h.Asleep()

		declare(append(late, "[Service]", "TimeoutStartSec=5s")...)
		c = h.Connect()
		h.Wait("the start takes too long", func() bool { return h.Property("app.service", "Result") == "timeout" }, "app.service")
		c.Close()
		h.Control("stop", "app-proxy.socket", "app-proxy.service") // nobody starts it again
		h.WaitState("app.service", "failed")
		h.WaitState("app-healthy.service", "inactive")
		h.Control("reset-failed", "app.service")
		h.Control("start", "app-proxy.socket")
		h.Asleep()

		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The check is the image's.
		h.Must(t, "sh", "-c", `printf 'FROM %s\nHEALTHCHECK --interval=1h CMD ["/app","-exists","/health/ok"]\n' "$1" |`+
			`podman build --quiet --format docker --tag localhost/checked -`, "-", image)
		h.Declare("app", slices.Concat([]string{"[Container]", "Image=localhost/checked", "Exec=-http :80"}, check[:3],
			[]string{"[ScaleToZero]", "IdleTimeout=1s"})...)
		app.letsIn("app", "systemd-app")

		// What the app needs has no port.
		h.PutFile("db.container", strings.Join(slices.Concat([]string{"[Container]", "Image=" + image, "Exec=-http :80"}, check[1:], late,
			[]string{"[ScaleToZero]", ""}), "\n"))
		h.App("app", "-http :80", h.Publish(), "[Unit]", "Requires=db.container", "After=db.container", "[ScaleToZero]", "IdleTimeout=1s")
		app.letsIn("db", "systemd-db")

		declare("HealthInterval=3s", "HealthRetries=1", "HealthOnFailure=kill")
		app.open()
		h.Connect()
		first = h.MustGet()
		app.close()
		app.awaitChecks("app", "systemd-app")
		app.open()
		if again := h.MustGet(); again == first {
			t.Error("the app was not killed")
		}
	})
}

// checked is an app whose check looks for a file.
type checked struct {
	*harness.Host
	dir string
}

func (c checked) open()  { c.Helper(); c.Must(c.T, "touch", c.dir+"/ok") }
func (c checked) close() { c.Helper(); c.Must(c.T, "rm", "-f", c.dir+"/ok") }

// awaitChecks waits until a container that starts was asked more often than Podman
// does by itself, and has not passed.
func (c checked) awaitChecks(name, container string) {
	c.Helper()
	c.Wait("the app was asked, and is not healthy", func() bool {
		out, err := c.Session.Run(c.Context(), "podman", "inspect", "--format", "{{len .State.Health.Log}}", container)
		n, e := strconv.Atoi(strings.TrimSpace(out.Stdout))
		return err == nil && e == nil && n > 2 && c.State(name+".service") == "activating"
	}, name+".service")
}

// letsIn has a client wait for an app, which it reaches as soon as a service is
// healthy, that of the app or of what it needs.
func (c checked) letsIn(name, container string) {
	c.Helper()
	c.close()
	answer := make(chan error, 1)
	go func() {
		_, err := c.Get()
		answer <- err
	}()
	c.awaitChecks(name, container)
	first := c.Must(c.T, "podman", "inspect", "--format", "{{.Id}}", container)
	c.Expect(name+"-healthy.service", "active")
	c.Expect("app-proxy.service", "inactive")
	select {
	case err := <-answer:
		c.Fatalf("the client was let through: %v", err)
	default:
	}
	if again := c.Must(c.T, "podman", "inspect", "--format", "{{.Id}}", container); again != first {
		c.Error("the app was killed while it started")
	}
	c.open()
	if err := <-answer; err != nil {
		c.Errorf("the client was not answered: %v", err)
	}
	c.WaitState(name+"-healthy.service", "inactive")
	c.WaitState("app.service", "inactive")
	c.WaitState(name+".service", "inactive")
	c.Asleep()
}
