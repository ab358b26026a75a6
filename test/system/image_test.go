package system

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// What packaging/bootc/Containerfile copies works where /usr is read-only. The
// image of the service is the lab's.
func TestReadOnlyUsr(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{}) // "make install" is what the first COPY copies
	h := &harness.Host{T: t, Session: m.Root(), M: m, Port: 8080}
	if _, err := h.NginxImage(t.Context()); err != nil {
		t.Fatal(err)
	}
	copies := regexp.MustCompile(`(?m)^COPY (\S+) (\S+)$`).FindAllStringSubmatch(read(t, "../../packaging/bootc/Containerfile"), -1)
	if len(copies) != 2 || copies[0][1] != "dist/root/usr" || copies[0][2] != "/usr" {
		t.Fatalf("the image copies %q", copies)
	}
	text := read(t, filepath.Join("../..", copies[1][1]))
	h.PutFile(copies[1][2], regexp.MustCompile(`(?m)^Image=.*`).ReplaceAllString(text, "Image=localhost/nginx"))
	h.Must(t, "mount", "--bind", "--options", "ro", "/usr", "/usr")
	if out, err := h.Session.Run(t.Context(), "touch", "/usr/written"); err == nil {
		t.Fatalf("/usr is writable: %s", out.Stdout)
	}
	h.Must(t, "zerolet", "apply")
	if out := h.Must(t, "curl", "-sS", "http://localhost:8080/"); !strings.Contains(out, "nginx") {
		t.Errorf("the service answers %s", out)
	}
	h.Unused("web")
	h.Must(t, "zerolet", "sleep", "web")
	h.Expect("web.service", "inactive")
	h.Expect("web-proxy.socket", "active")
}
