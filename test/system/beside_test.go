package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// TestVariablePort: a PublishPort= for the port that Listen= names is dropped,
// also where its host side is known to systemd alone. Podman would bind it
// beside the socket, and nothing would start.
func TestVariablePort(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", "PublishPort=${WEB_PORT}:80", "[Service]", fmt.Sprintf("Environment=WEB_PORT=%d", h.Port),
			"[ScaleToZero]", fmt.Sprintf("Listen=%d:80", h.Port), "IdleTimeout=1s")
		h.MustGet()
		h.Asleep()
	})
}

// TestWantedByApp: a container with a port of its own is started with the
// service that [Install] names, and sleeps when that does.
func TestWantedByApp(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("db", "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+10), "[Install]", "WantedBy=app.service", "[ScaleToZero]", "IdleTimeout=1s")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		h.MustGet()
		h.WaitState("db.service", "active")
		h.Expect("db-proxy.service", "inactive")
		c.Close()
		h.WaitState("db.service", "inactive")
		h.Asleep()
	})
}

// TestPartOfTarget: what is part of a target is down with it, its socket too,
// and nobody brings it back before the target is.
func TestPartOfTarget(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile(h.UnitDir+"/site.target", "[Unit]\nDescription=Site\n")
		h.Reload()
		h.Control("start", "site.target")
		h.App("app", "-echo :80", h.Publish(), "[Unit]", "PartOf=site.target", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		if _, err := fmt.Fprintln(c, "here"); err != nil {
			t.Fatal(err)
		}
		h.WaitState("app.service", "active")
		h.Control("stop", "site.target")
		c.Close()
		for _, unit := range []string{"app-proxy.socket", "app-proxy.service", "app.service"} {
			h.WaitState(unit, "inactive")
		}
		if c, err := h.M.Dial(t.Context(), "tcp", h.Addr()); err == nil {
			c.Close()
			t.Error("the socket goes on when its target has been stopped")
		}
		h.Expect("app-proxy.socket", "inactive")
		h.Control("start", "site.target")
		h.WaitState("app-proxy.socket", "active")
		c = h.Connect()
		said(h, c, "again") // not closed before systemd has seen it: until then all is inactive
		c.Close()
		h.Asleep()
	})
}

// TestExportIsChecked: what check refuses is not exported, whether it is the
// plan that refuses or the machine's Quadlet.
func TestExportIsChecked(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile("frob.container", "[Container]\nImage=localhost/frob\nPublishPort=8100:80\nFrob=1\n[ScaleToZero]\n")
		h.PutFile("frob2.container", "[Container]\nImage=localhost/frob2\nPublishPort=8101:80\n[ScaleToZero]\n")
		h.PutFile("two.kube", "[Kube]\nYaml=two.yml\nPublishPort=8101:80\n")
		for name, why := range map[string]string{"frob": ":4:1: error: quadlet: unsupported key 'Frob'", "frob2": ":3:1: error: podman publishes port 8101/tcp, too"} {
			for _, verb := range [][]string{{"check"}, {"export", "knative"}} {
				args := append(append([]string{"zerolet"}, verb...), name)
				out, err := h.Session.Run(t.Context(), args...)
				if err == nil || out.ExitCode != 1 || out.Stdout != "" || !strings.Contains(out.Stderr, why) {
					t.Errorf("%v: exit status %d, %q, %q", args, out.ExitCode, out.Stdout, out.Stderr)
				}
			}
		}
	})
}

// TestCgroupsMode: a container that stays in its unit's cgroup is reached, and
// one that does not is refused, instead of being waited for.
func TestCgroupsMode(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for _, mode := range []string{"disabled", "split"} {
			h.App("app", "-http :80", h.Publish(), "PodmanArgs=--cgroups="+mode, "[ScaleToZero]", "IdleTimeout=1s")
			h.MustGet()
			h.Asleep()
		}
		for _, mode := range []string{"enabled", "no-conmon"} {
			h.PutFile("app.container", "[Container]\nImage=localhost/app\n"+h.Publish()+"\nCgroupsMode="+mode+"\n[ScaleToZero]\n")
			out, err := h.Session.Run(t.Context(), "zerolet", "check", "app")
			if want := fmt.Sprintf("app.container:4:1: error: cgroups mode %q", mode); err == nil || !strings.Contains(out.Stderr, want) {
				t.Errorf("zerolet check does not say %q: %s", want, out.Stderr)
			}
		}
	})
}

// TestLowPort: check foresees that a user may not listen on a port, and what
// the doctor says mends it.
func TestLowPort(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.Port = 80
		if !h.UserManager {
			h.Port = 81
			h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
			h.MustGet()
			if out := h.Must(t, "zerolet", "check", "app"); !strings.Contains(out, "listens on 81,") {
				t.Errorf("zerolet check: %s", out)
			}
			return
		}
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("app.container", "[Container]\nImage="+image+"\nExec=-http :80\n"+h.Publish()+"\n[ScaleToZero]\nIdleTimeout=1s\n")
		out, err := h.Session.Run(t.Context(), "zerolet", "check", "app")
		if want := ":4:1: warning: users may listen on ports from 1024 on, not on 80"; err != nil || !strings.Contains(out.Stderr, want) {
			t.Errorf("zerolet check does not say %q: %v %s", want, err, out.Stderr)
		}
		h.Reload()
		h.Wait("the doctor says what to do", func() bool {
			out, _ := h.Session.Run(t.Context(), "zerolet", "doctor")
			return strings.Contains(out.Stdout, "mend: as root: sysctl net.ipv4.ip_unprivileged_port_start=PORT")
		})
		h.M.Root().Must(t, "sysctl", "net.ipv4.ip_unprivileged_port_start=80")
		h.Must(t, "zerolet", "apply")
		h.MustGet()
		h.Asleep()
	})
}

// TestNothingHasChanged: a file that nobody has edited has no other settings,
// in whatever order Quadlet writes podman's options at each look.
func TestNothingHasChanged(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "HostName=web", "ShmSize=128m", "StopTimeout=20", "StopSignal=SIGTERM", "Tmpfs=/run", "[ScaleToZero]", "IdleTimeout=1s")
		for range 20 {
			if out := h.Must(t, "zerolet", "apply", "--dry-run"); out != "nothing to do: 1 service as declared" {
				t.Fatalf("zerolet apply --dry-run: %q", out)
			}
		}
		if out := h.Must(t, "zerolet", "doctor"); out != "all is well" {
			t.Errorf("zerolet doctor: %q", out)
		}
		h.MustGet()
		h.Asleep()
	})
}
