package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// stock is something that runs as stock Quadlet makes it, and publishes a port.
type stock struct {
	name, file string // of its service, and the file that gets the section
	stops      string // what zerolet apply says
	held       bool   // another unit needs it
}

func stocks() []stock {
	return []stock{
		{"stock", "stock.container", "stock.service", false},
		{"stock-pod", "stock.pod", "stock-pod.service, stock-db.service, stock-web.service", false},
		{"stock-k", "stock-k.kube", "stock-k.service", false},
		{"held-pod", "held.pod", "held-pod.service, held-web.service", true},
	}
}

// What runs, with its ports published by Podman, and gets a section, is taken over by
// one zerolet apply: it says what stops, and the socket has the port. What another unit
// needs goes on without the ports, and that unit with it.
func takesOver(t *testing.T, h *harness.Host) {
	image, err := h.AppImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	port := func(i int) int { return h.Port + 300 + 20*i }
	published := func(i int) string { return fmt.Sprintf("PublishPort=%d:80\n", port(i)) }
	const plain = "[Quadlet]\nDefaultDependencies=no\n" // no network to wait for
	container := func(name, lines string) {
		h.PutFile(name+".container", "[Container]\nImage="+image+"\nExec="+lines+plain)
	}
	container("stock", "-http :80\n"+published(0))
	h.PutFile("stock.pod", "[Pod]\n"+published(1)+plain)
	container("stock-web", "-http :80\nPod=stock.pod\n")
	container("stock-db", "-http :5432\nPod=stock.pod\n")
	h.PutFile("stock.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: stock-k}\nspec:\n  containers:\n"+
		"  - {name: web, image: '"+image+"', imagePullPolicy: Never, args: ['-http', ':80']}\n")
	h.PutFile("stock-k.kube", "[Kube]\nYaml=stock.yaml\n"+published(2)+plain)
	h.PutFile("held.pod", "[Pod]\n"+published(3)+plain)
	container("held-web", "-http :80\nPod=held.pod\n")
	h.PutFile(h.UnitDir+"/holder.service", "[Unit]\nRequires=held-pod.service\nAfter=held-pod.service\n[Service]\nExecStart=sleep infinity\n")
	h.Reload()
	h.Control("start", "stock.service", "stock-pod.service", "stock-k.service", "holder.service")
	answer := func(i int) (string, error) {
		out, err := h.Session.Run(t.Context(), "curl", "-sS", "--max-time", "100", fmt.Sprintf("http://127.0.0.1:%d/", port(i)))
		return out.Stdout, err
	}
	before := make(map[string]bool)
	for i, s := range stocks() {
		h.Wait(s.name+" answers", func() bool {
			id, err := answer(i)
			before[id] = true
			return err == nil && id != ""
		}, s.name+".service")
	}

	says := func(args ...string) {
		t.Helper()
		out := h.Must(t, append([]string{"zerolet", "apply"}, args...)...)
		for i, s := range stocks() {
			if want := fmt.Sprintf("+ %s: listens on %d, stops %s until the next client comes", s.name, port(i), s.stops); !strings.Contains(out, want) {
				t.Errorf("zerolet apply says, without %q\n%s", want, out)
			}
		}
	}
	for _, s := range stocks() {
		h.Must(t, "sh", "-c", `printf '[ScaleToZero]\nIdleTimeout=1s\n' >>"$0/$1"`, h.QuadletDir, s.file)
	}
	says("--dry-run")
	says()
	h.Must(t, "zerolet", "status")
	for i, s := range stocks() {
		id, err := answer(i)
		if err != nil || id == "" || before[id] {
			t.Errorf("%s: %q, %v", s.name, id, err)
		}
		before[id] = true
		if s.held {
			h.Expect(s.name+".service", "active")
			continue
		}
		h.WaitState(s.name+".service", "inactive")
	}
	h.Expect("holder.service", "active")
	h.Control("stop", "holder.service")
	h.WaitState("held-pod.service", "inactive")
	if again := h.Must(t, "zerolet", "apply"); strings.Contains(again, "stops") {
		t.Errorf("zerolet apply says\n%s", again)
	}
	nothingLeft(h)
}
