package attack

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// TestLocalPeer comes from the network to an app's unix socket. The app takes
// it for the proxy's user, and PostgreSQL's peer for the owner: nothing can
// change that but the file, and zerolet check says so at the line.
func TestLocalPeer(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		modes := []string{""}
		if h.UserManager {
			modes = append(modes, "keep-id")
		}
		for _, mode := range modes {
			dir := "/srv/local" + mode
			if h.UserManager {
				dir = h.Home + "/local" + mode
			}
			h.Must(t, "mkdir", dir)
			h.App("app", "-peer unix:/run/app/app.sock", "Network=none", "UserNS="+mode, "PodmanArgs=--umask=0000",
				"Volume="+dir+":/run/app", "[ScaleToZero]", fmt.Sprintf("Listen=%d:%s/app.sock", h.Port, dir), "IdleTimeout=1s")
			c := h.Connect()
			answer, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			uid, err := strconv.Atoi(strings.TrimSpace(string(answer)))
			if err != nil || !isLocal(h, mode, uid) {
				t.Errorf("UserNS=%s: the app sees uid %q: %v", mode, answer, err)
			}
			out, err := h.Session.Run(t.Context(), "zerolet", "check", "app")
			if want := fmt.Sprintf(":9:1: warning: the app takes every client of port %d for a local one", h.Port); err != nil || !strings.Contains(out.Stderr, want) {
				t.Errorf("zerolet check does not say %q: %s", want, out.Stderr)
			}
			c.Close()
			h.Asleep() // what sleeps has its other settings when it wakes
		}
	})
}

// isLocal reports whether a uid is the proxy's, as docs/internals/security.md has it: the
// container's root, the user, or one of DynamicUser= (systemd.exec(5)).
func isLocal(h *harness.Host, mode string, uid int) bool {
	switch {
	case !h.UserManager:
		return uid >= 61184 && uid <= 65519
	case mode == "keep-id":
		return uid == 1000
	}
	return uid == 0
}
