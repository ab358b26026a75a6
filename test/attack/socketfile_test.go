package attack

import (
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Whoever has rights in the directory of a public socket can remove its file, or
// put another there: no client comes any more, though systemd still listens. It
// is told, and apply makes it anew. Nothing is told of what is well.
func TestSocketFile(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		root, dir := h.M.Root(), "/var/tmp/public-"+h.Name
		file := dir + "/app.sock"
		nobody := func(args ...string) {
			root.Must(t, append([]string{"setpriv", "--reuid=nobody", "--clear-groups"}, args...)...)
		}
		h.App("app", "-http :80", "[ScaleToZero]", "DirectoryMode=0777", "Listen="+file+":80")
		for name, attack := range map[string]func(){
			"removed":  func() { nobody("rm", "--force", file) },
			"replaced": func() { nobody("mv", file, file+".away"); nobody("touch", file) },
			"linked":   func() { nobody("mv", file, file+".away"); nobody("ln", "--symbolic", "/none", file) },
			"exchanged": func() {
				nobody("mv", file, file+".away")
				root.Must(t, "systemd-run", "--quiet", "--collect", "--uid=nobody", "--unit=thief-"+h.Name,
					"systemd-socket-activate", "--listen="+file, "cat")
				h.Wait("the thief listens", func() bool {
					_, err := root.Run(t.Context(), "test", "-S", file)
					return err == nil
				})
			},
		} {
			t.Run(name, func(t *testing.T) {
				if text := h.Must(t, "zerolet", "status", "app"); !strings.Contains(text, "asleep") {
					t.Fatalf("before:\n%s", text)
				}
				attack()
				out, err := h.Session.Run(t.Context(), "zerolet", "status", "app")
				if err == nil || !strings.Contains(out.Stdout, "not listening") || !strings.Contains(out.Stdout, "nothing listens on "+file+": zerolet apply") {
					t.Errorf("status: %v\n%s", err, out.Stdout)
				}
				out, err = h.Session.Run(t.Context(), "zerolet", "doctor")
				if err == nil || !strings.Contains(out.Stdout, "mend: zerolet apply") {
					t.Errorf("doctor: %v\n%s", err, out.Stdout)
				}
				if text := h.Must(t, "zerolet", "apply"); !strings.Contains(text, "~ app: listens on "+file) {
					t.Errorf("apply: %s", text)
				}
				if text := h.Must(t, "curl", "--silent", "--fail", "--max-time", "60", "--unix-socket", file, "http://app/"); text == "" {
					t.Error("no answer")
				}
				h.Must(t, "zerolet", "sleep", "--force", "app")
			})
		}
	})
}
