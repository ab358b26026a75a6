package system

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// kube declares the recipe of docs/recipes.md, as it stands there but for the
// images, which the lab cannot pull, and the port.
func kube(h *harness.Host, more string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	recipe := strings.ReplaceAll(between(h.T, read(h.T, "../../docs/recipes.md"), "## What Kubernetes", "\n## "), "8080", fmt.Sprint(h.Port))
	file := strings.TrimPrefix(between(h.T, recipe, "```ini\n", "```"), "# blog.kube\n")
	yaml := strings.TrimPrefix(between(h.T, recipe, "```yaml\n", "```"), "# blog.yaml\n")
	for name, args := range map[string]string{"docker.io/library/blog": "-http, ':80', -peer, ':81', -udp-peer, ':81'", "docker.io/library/postgres:17": "-http, ':5432'"} {
		yaml = strings.ReplaceAll(yaml, "image: "+name+"\n", "image: "+image+"\n      imagePullPolicy: Never\n      args: ["+args+"]\n      volumeMounts: [{name: data, mountPath: /data}]\n")
	}
	yaml += "  volumes: [{name: data, persistentVolumeClaim: {claimName: blog-data}}]\n"
	h.PutFile(filepath.Join(h.QuadletDir, "blog.yaml"), yaml)
	h.PutFile("blog.kube", file+more)
	h.Reload()
	h.WaitState("blog-proxy.socket", "active")
}

// What a .kube file plays wakes and sleeps like a container, and is reached in
// its own network by clients with their own addresses.
func TestKube(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), wakesKube)
}

func wakesKube(t *testing.T, h *harness.Host) {
	kube(h, fmt.Sprintf("Listen=%d:80\nListen=%d:81\nListen=%[2]d:81/udp\nIdleTimeout=1s\nReadyCheck=http:/\n[Install]\nWantedBy=default.target\n", h.Port, h.Port+10))
	h.Control("start", "default.target")
	h.Expect("blog.service", "inactive")
	starts := make(map[string]bool)
	for range 2 {
		c := h.Connect()
		starts[h.MustGet()] = true
		h.Expect("blog.service", "active")
		if id := answerOf(h, "http://localhost:5432"); starts[id] {
			t.Errorf("web asks db, and %s answers", id)
		}
		c.Close()
		h.AsleepPod("blog", "blog")
	}
	if len(starts) != 2 {
		t.Errorf("%d starts, want 2", len(starts))
	}
	h.Must(t, "podman", "system", "prune", "--all", "--volumes", "--force")
	h.Must(t, "podman", "volume", "exists", "blog-data")
	sees(h, h.Port+10)
	h.AsleepPod("blog", "blog")
	c := h.Connect() // there has to be something to kill
	first := h.MustGet()
	h.Must(t, "podman", "pod", "kill", "blog")
	c.Close()
	h.Wait("the pod is another one", func() bool {
		id, err := h.Get()
		return err == nil && id != first
	}, "blog.service")
	for _, verb := range []string{"wake blog", "status blog.kube", "sleep --force blog", "explain blog", "history blog", "check blog"} {
		h.Must(t, append([]string{"zerolet"}, strings.Fields(verb)...)...)
	}
	h.AsleepPod("blog", "blog")
}
