package reliability

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Podman prunes the network of a container that sleeps: nobody uses it. The next
// client is answered all the same, however the network's own file is made.
func TestPruned(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		for name, more := range map[string]string{
			"plain": "NetworkName=plain-net", "boot": "[Install]\nWantedBy=default.target", "stops": "[Service]\nExecStopPost=/bin/true",
			"bound": "",
		} {
			h.PutFile(name+".network", "[Network]\n"+more+"\n")
		}
		for _, name := range []string{"plain", "boot", "stops", "bound"} {
			lines := []string{h.Publish(), "Network=" + name + ".network", "[ScaleToZero]", "IdleTimeout=1s"}
			if name == "bound" {
				lines = append(lines, "[Unit]", "BindsTo=bound-network.service")
			}
			h.App("app", "-http :80", lines...)
			if name == "boot" {
				h.Control("start", "default.target")
			}
			for _, prune := range []string{"system", "network"} {
				first := h.MustGet()
				h.Asleep()
				h.Must(t, "podman", prune, "prune", "--force")
				if left := h.Must(t, "podman", "network", "ls", "--format", "{{.Name}}"); strings.Contains(left, name) {
					t.Fatalf("podman %s prune leaves the network %s:\n%s", prune, name, left)
				}
				if again := h.MustGet(); again == first {
					t.Error("the same container answers")
				}
				h.Asleep()
			}
			for range 8 { // as many containers of the network wake at the same time
				h.Control("start", name+"-network.service")
			}
		}
	})
}

// What a sleeping service uses stays, whatever is pruned: its data, and its image,
// without which it could not wake where there is no registry. Nothing runs for it,
// and nothing is left of it when its file is gone.
func TestPrunedNothing(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.PutFile("data.volume", "[Volume]\n")
		h.PutFile("kept.network", "[Network]\n")
		h.App("app", "-http :80", h.Publish(), "Network=kept.network", "Volume=data.volume:/data", "Volume=plain:/plain", "Volume=/anonymous",
			"[ScaleToZero]", "IdleTimeout=1s")
		volume := func(name string) string {
			return strings.TrimSpace(h.Must(t, "podman", "volume", "inspect", "--format", "{{.Mountpoint}}", name))
		}
		h.Must(t, "podman", "pod", "create", "--infra=false", "--name=zerolet-keep") // somebody else's
		h.Must(t, "mkdir", h.RuntimeDir+"/root")
		h.Declare("raw", "Rootfs="+h.RuntimeDir+"/root", fmt.Sprintf("PublishPort=%d:80", port(h, 1)), "Volume=plain:/plain", "[ScaleToZero]")
		first := h.MustGet()
		for _, name := range []string{"systemd-data", "plain"} {
			h.Must(t, "sh", "-c", "echo precious >"+volume(name)+"/file")
		}
		h.Asleep()
		if running := h.Must(t, "podman", "ps", "--quiet"); running != "" {
			t.Errorf("it runs while it sleeps: %s", running)
		}
		h.Must(t, "podman", "volume", "create", "nobody")

		// Who removes what keeps them is told, and how to mend it.
		h.Must(t, "sh", "-c", "podman pod rm --force $(podman pod ls --quiet --filter=label=io.zerolet.keepers)")
		out, err := h.Session.Run(t.Context(), "zerolet", "doctor")
		if err == nil || !strings.Contains(out.Stdout, "app: podman prune may remove its volumes, and the data in them") {
			t.Errorf("the doctor is content: %v\n%s", err, out.Stdout)
		}
		saved := h.RuntimeDir + "/app.tar"
		h.Must(t, "podman", "save", "--quiet", "--output="+saved, "localhost/app")
		h.Must(t, "podman", "image", "rm", "--force", "localhost/app")
		out, err = h.Session.Run(t.Context(), "zerolet", "doctor")
		if err == nil || !strings.Contains(out.Stdout, "the data in them: without its image nothing keeps them") {
			t.Errorf("the doctor is content without the image: %v\n%s", err, out.Stdout)
		}
		h.Must(t, "podman", "load", "--quiet", "--input="+saved)
		h.Must(t, "zerolet", "apply")
		h.Must(t, "zerolet", "doctor")
		all := ""
		if !strings.Contains(h.Must(t, "podman", "--version"), " 5.") {
			all = " --all" // else Podman 6 takes only those without a name
		}
		for _, prune := range []string{
			"container prune", "pod prune", "volume prune" + all, "image prune --all", "network prune",
			"system prune", "system prune --all", "system prune --all --volumes",
		} {
			h.Must(t, append(append([]string{"podman"}, strings.Fields(prune)...), "--force")...)
			h.Must(t, "podman", "image", "exists", "localhost/app")
			for _, name := range []string{"systemd-data", "plain"} {
				if text := h.Must(t, "cat", volume(name)+"/file"); strings.TrimSpace(text) != "precious" {
					t.Errorf("after podman %s the data of %s are %q", prune, name, text)
				}
			}
		}
		if left := h.Must(t, "podman", "volume", "ls", "--quiet"); len(strings.Fields(left)) != 2 {
			t.Errorf("volumes: %s", left)
		}
		if second := h.MustGet(); second == first {
			t.Error("the same container answers")
		}
		h.Asleep()
		keepIsBounded(t, h)
		h.Must(t, "rm", h.QuadletDir+"/app.container", h.QuadletDir+"/raw.container")
		h.Must(t, "zerolet", "apply")
		if inside := strings.TrimSpace(h.Must(t, "podman", "pod", "inspect", "--format={{.NumContainers}}", "zerolet-keep")); inside != "0" {
			t.Errorf("a pod of somebody else's has %s containers", inside)
		}
		h.Must(t, "podman", "pod", "rm", "zerolet-keep")
		h.Must(t, "podman", "system", "prune", "--all", "--volumes", "--force")
		if left := h.Must(t, "sh", "-c", "podman ps --all --quiet; podman pod ps --quiet; podman volume ls --quiet; podman images --quiet"); left != "" {
			t.Errorf("left without the file: %s", left)
		}
	})
}

// A Podman that does not come to an end leaves the unit what TimeoutStopSec= gives
// it: what is to be kept is no reason to fail.
func keepIsBounded(t *testing.T, h *harness.Host) {
	t.Helper()
	hangs := h.Home + "/hangs"
	h.PutFile(hangs+"/podman", "#!/bin/sh\ntouch "+hangs+"/asked\nexec sleep infinity\n")
	h.Must(t, "chmod", "755", hangs+"/podman")
	// Quadlet's commands have the path of the real one.
	dropIn(h, "app.service", "[Service]", "TimeoutStopSec=20", "Environment=PATH="+hangs+":/usr/bin:/bin")
	h.Reload()
	h.MustGet()
	h.Wait("it has stopped", func() bool {
		return h.State("app-proxy.service") == "inactive" && slices.Contains([]string{"inactive", "failed"}, h.State("app.service"))
	}, "app.service")
	if result := h.Property("app.service", "Result"); result != "success" {
		t.Errorf("result: %s\n%s", result, h.LastJournal())
	}
	h.Must(t, "test", "-e", hangs+"/asked")
	removeDropIn(h, "app.service")
	h.MustGet()
	h.Asleep()
}
