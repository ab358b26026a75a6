package attack

import (
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/zerolet/zerolet/test/harness"
)

// Whoever writes a file, names one or has a container say something, tells the
// terminal of who looks at it nothing: no title, no clipboard, no colour, and no
// other order of the letters. What is not a terminal gets the bytes as they are.
func TestEscapes(t *testing.T) {
	const escapes = "\x1b]0;title\a\x1b]52;c;Y2xpcA==\a\x1b[2J\u009b8m\u202etxet"
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -die "+escapes, h.Publish(), "Environment=A="+escapes, "Volume=/tmp/"+escapes+":/data",
			"[Unit]", "Description="+escapes, "[ScaleToZero]", "StartTimeout=3s")
		h.PutFile("socket.container", "[Container]\nImage=localhost/app\n[ScaleToZero]\nListen=%t/a"+escapes+":/data/"+escapes+"\n")
		h.PutFile("broken.container", "[Container]\nImage=localhost/app\nPublishPort="+escapes+":80\n[ScaleToZero]\n"+escapes+"=\n"+escapes+"\n")
		bad := path.Join(h.QuadletDir, "bad"+escapes+".container")
		h.PutFile(bad, "[Container]\nImage=localhost/app\nPublishPort=1:1\n[ScaleToZero]\n")
		h.Reload()
		_, _ = h.Session.Run(t.Context(), "zerolet", "wake", "app") // its last words
		for _, args := range [][]string{
			{"check"},
			{"check", bad},
			{"check", "/none/" + escapes},
			{"render"},
			{"render", "none" + escapes},
			{"explain"},
			{"status"},
			{"status", escapes},
			{"doctor"},
			{"history"},
			{"metrics"},
			{"export", "knative", "app"},
			{"apply", "--dry-run"},
			{"wake", "app"},
			{"sleep", escapes},
			{escapes},
			{"status", "--" + escapes},
		} {
			for _, term := range []string{"xterm", "dumb"} {
				written := onTerminal(t, h, term, append([]string{"zerolet"}, args...))
				for _, seq := range []string{"\x1b]", "\a", "\x1b[2J", "\u009b", "\u202e"} {
					if strings.Contains(written, seq) {
						t.Errorf("TERM=%s zerolet %q: the terminal gets %q:\n%q", term, args, seq, written)
					}
				}
			}
		}
		if text := h.Must(t, "zerolet", "render", "app"); !strings.Contains(text, escapes) {
			t.Errorf("a pipe does not get the bytes of the unit:\n%q", text)
		}
	})
}

// onTerminal is what a command of the session writes on a terminal.
func onTerminal(t *testing.T, h *harness.Host, term string, args []string) string {
	t.Helper()
	cmd := h.Command(t.Context(), append([]string{"env", "TERM=" + term}, args...)...)
	cmd.SysProcAttr = nil // pty makes a session for it
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := tty.SetReadDeadline(time.Now().Add(harness.Patience)); err != nil {
		t.Fatal(err)
	}
	written, _ := io.ReadAll(tty) // EIO: everybody has left it
	_ = cmd.Wait()                // many tell by their status
	return string(written)
}
