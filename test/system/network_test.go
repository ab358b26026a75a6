package system

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// The app is reached in every network, and as every user, that Podman gives a
// container. With Network=host it has another port than the socket.
func TestNetworks(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile("own.network", "[Network]\n")
		cases := []string{"Network=bridge", "Network=own.network", "Network=host", "User=1234"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "Network=none", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap", "Network=own.network\nUserNS=keep-id")
		}
		for _, setting := range cases {
			t.Run(strings.ReplaceAll(setting, "\n", ","), func(t *testing.T) {
				h := *h
				h.T = t
				port := h.Port + 2000 // not every user may bind 80
				h.App("app", fmt.Sprintf("-http :%d", port), fmt.Sprintf("PublishPort=%d:%d", h.Port, port), setting,
					"[ScaleToZero]", "IdleTimeout=1s")
				h.MustGet()
				h.Asleep()
			})
		}
	})
}

// With Notify=healthy the container's start lasts until its health check
// passes. No client reaches the app before, although it listens, and none has to
// wait for the regular check to come again. An app that is healthy no more is
// killed as the file says, one that starts is not.
func TestHealthy(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		dir := h.Home + "/health"
		h.Must(t, "mkdir", "-p", dir)
		declare := func(lines ...string) {
			all := []string{
				h.Publish(), "Volume=" + dir + ":/health", "Notify=healthy", `HealthCmd=["/app","-exists","/health/ok"]`,
			}
			h.App("app", "-http :80", slices.Concat(all, lines, []string{"[ScaleToZero]", "IdleTimeout=1s"})...)
		}
		declare("HealthInterval=1h")
		answer := make(chan error, 1)
		go func() {
			_, err := h.Get()
			answer <- err
		}()
		checks := func() int {
			out, err := h.Session.Run(t.Context(), "podman", "inspect", "--format", "{{.State.Health.Status}} {{len .State.Health.Log}}", "systemd-app")
			var n int
			if _, scan := fmt.Sscanf(out.Stdout, "starting %d", &n); err != nil || scan != nil {
				return 0
			}
			return n
		}
		h.Wait("the app listens and is not healthy", func() bool { return checks() > 1 }, "app.service")
		h.Expect("app.service", "activating")
		h.Expect("app-proxy.service", "inactive")
		select {
		case err := <-answer:
			t.Fatalf("the client was let through: %v", err)
		default:
		}
		h.Must(t, "touch", dir+"/ok")
		if err := <-answer; err != nil {
			t.Errorf("the client was not answered: %v", err)
		}
		h.Asleep()

		declare("HealthInterval=3s", "HealthRetries=1", "HealthOnFailure=kill")
		h.Connect()
		first := h.MustGet()
		h.Must(t, "rm", dir+"/ok")
		h.Wait("the app starts anew and is not healthy", func() bool { return checks() > 1 }, "app.service")
		h.Must(t, "touch", dir+"/ok")
		if again := h.MustGet(); again == first {
			t.Error("the app was not killed")
		}
	})
}
