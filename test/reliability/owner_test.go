package reliability

import (
	"fmt"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// behindOwner declares app, which echoes on a second port, in the network of own, and
// returns the way to the echo.
func behindOwner(h *harness.Host, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	text := "[Container]\nImage=" + image + "\nExec=-http :9000\n"
	for _, line := range lines {
		text += line + "\n"
	}
	h.PutFile("own.container", text)
	h.App("app", "-http :80 -echo :81", "Network=own.container",
		"[ScaleToZero]", fmt.Sprintf("Listen=%d:80", h.Port), fmt.Sprintf("Listen=%d:81", echoPort(h)), "IdleTimeout=1s")
}

func ownerAsleep(h *harness.Host) {
	h.Helper()
	h.WaitState("own.service", "inactive")
	h.Asleep()
}

// An owner that is killed or restarted under traffic takes the app along, whose
// clients are reset. The next one is answered, in the new network. With nobody
// there nothing comes back, and nothing is left.
func TestOwnerLost(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		for _, section := range []string{"", "[ScaleToZero]"} {
			behindOwner(h, "[Service]", "Restart=always", "RestartSec=100ms", section)
			for what, lose := range map[string]func(){
				"killed":    func() { h.Must(t, "podman", "kill", "systemd-own") },
				"restarted": func() { h.Control("restart", "own.service") },
			} {
				if what == "restarted" && section != "" {
					continue // as without it
				}
				c := underWay(h)
				first, pid := h.MustGet(), containerPID(h)
				lose()
				if n, err := c.Read(make([]byte, 1)); err == nil {
					t.Errorf("%s: read %d bytes of a container that is gone", what, n)
				}
				waitExit(h, pid)
				if again := h.MustGet(); again == first {
					t.Errorf("%s: the app has outlived its network", what)
				}
				c.Close()
				ownerAsleep(h)
			}
			h.MustGet()
			c := underWay(h)
			h.Must(t, "podman", "kill", "systemd-own")
			abort(c)
			h.WaitState("app-proxy.service", "inactive")
			atRest(h, "own.service") // failed, or back once more for the proxy
			atRest(h, "app.service") // which may have been stopped before it listened for that
			if left := harness.Containers(t, h.Session); left != "" {
				t.Errorf("containers are left: %s", left)
			}
			h.MustGet()
			ownerAsleep(h)
		}
	})
}

// While the owner cannot start the client is held, and is answered once it can.
// When the client leaves, nothing is tried any more.
func TestOwnerFails(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		repair := breakStart(h, "own.service", "")
		behindOwner(h, "[Service]", "Restart=always", "RestartSec=100ms")
		c := h.Connect()
		h.Wait("the owner has failed", func() bool { return tries(h) > 2 }, "own.service")
		h.Expect("app.service", "inactive")
		abort(c)
		h.WaitState("app-proxy.service", "inactive")
		h.WaitState("own.service", "failed")
		a := background(h)
		before := tries(h)
		h.Wait("it is tried again", func() bool { return tries(h) > before }, "own.service")
		repair()
		(<-a).must(h)
		ownerAsleep(h)
	})
}

// A client that comes while the app or its owner stops is answered by the next start.
func TestOwnerAtTheEdge(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		behindOwner(h)
		for _, unit := range []string{"app.service", "own.service"} {
			c := underWay(h) // it does not stop before the gate is there
			g := newGate(h, unit, "ExecStopPost")
			h.Reload()
			c.Close()
			waitStage(h, unit, "stop-post")
			a := background(h)
			waitStartWaits(h, "app-proxy.service")
			g.open()
			(<-a).must(h)
			ownerAsleep(h)
			removeDropIn(h, unit)
		}
	})
}
