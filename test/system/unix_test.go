package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Clients come to a unix socket. Its mode and owner are as in systemd.socket(5),
// and the journal says who woke the container.
func TestPublicUnixSocket(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		path, owner := h.RuntimeDir+"/app/web.sock", "SocketGroup=user"
		if !h.UserManager {
			owner = "SocketUser=user"
		}
		h.App("app", "-http :80", "[ScaleToZero]", "IdleTimeout=1s", "Listen=%t/app/web.sock:80", "SocketMode=0600", owner, "DirectoryMode=0711")
		if got := h.Must(t, "stat", "--format=%a %U", path, h.RuntimeDir+"/app"); !strings.HasPrefix(got, "600 user\n711 ") {
			t.Errorf("mode and owner: %s", got)
		}
		user := h.M.User()
		get := func() string {
			t.Helper()
			return user.Must(t, "curl", "--silent", "--show-error", "--fail", "--unix-socket", path, "http://app/")
		}
		get() // the user wakes it
		c, err := h.M.Dial(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first := get()
		if again := get(); again != first {
			t.Errorf("another container answered while the first one ran: %s, then %s", first, again)
		}
		c.Close()
		h.Asleep()
		if second := get(); second == first {
			t.Errorf("the container was not stopped: %s answered again", second)
		}
		h.Wait("the journal tells who woke it", func() bool {
			text, err := h.Journal(t.Context(), "app-proxy.service")
			return err == nil && strings.Contains(text, "ready for pid ") && strings.Contains(text, " of uid 1000 after ")
		}, "app-proxy.service")
		if _, err := h.M.Root().Run(t.Context(), "setpriv", "--reuid=nobody", "--clear-groups",
			"curl", "--silent", "--unix-socket", path, "http://app/"); err == nil {
			t.Error("the mode lets nobody in")
		}
		h.Asleep()
		h.App("manual", "-http :80", "[ScaleToZero]", "AutoStart=no", "Listen=%t/app/manual.sock:80")
		manual := h.RuntimeDir + "/app/manual.sock"
		h.Control("start", "manual-proxy.socket")
		h.Must(t, "test", "-S", manual)
		h.Control("stop", "manual-proxy.socket")
		if _, err := h.Session.Run(t.Context(), "test", "!", "-e", manual); err != nil {
			t.Error("a socket is left with nobody who listens")
		}
	})
}

// The app makes a unix socket in a bind mount, and needs no network. What it
// leaves there when it is stopped is a socket nobody listens on.
func TestAppUnixSocket(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		dir := h.Home + "/app"
		var as []string
		if !h.UserManager {
			dir = "/home/app" // which the sandbox hides but for this
		}
		h.Must(t, "mkdir", "--mode=0750", dir)
		if !h.UserManager {
			h.Must(t, "chown", "1234:2345", dir)
			as = []string{"User=1234", "Group=2345", "PodmanArgs=--umask=0007"}
		}
		h.App("app", "-http unix:/run/app/app.sock -delay 300ms", append(as, "Network=none", "Volume="+dir+":/run/app",
			"[ScaleToZero]", "IdleTimeout=1s", fmt.Sprintf("Listen=%d:%s/app.sock", h.Port, dir))...)
		if !h.UserManager {
			deniedUntilMember(t, h, dir+"/app.sock")
		}
		first := h.MustGet()
		h.Asleep()
		h.Must(t, "test", "-S", dir+"/app.sock")
		if second := h.MustGet(); second == first {
			t.Errorf("the container was not stopped: %s answered again", second)
		}
		h.Asleep()
	})
}

// deniedUntilMember shows that the system's proxy may not use just any socket,
// says which and why, and gets in by a group.
func deniedUntilMember(t *testing.T, h *harness.Host, path string) {
	t.Helper()
	c := h.Connect()
	h.Wait("the journal tells the path and the reason", func() bool {
		text, err := h.Journal(t.Context(), "app-proxy.service")
		return err == nil && strings.Contains(text, "connect unix:"+path+": permission denied (the proxy has to be allowed")
	}, "app-proxy.service")
	c.Close()
	h.Must(t, "groupadd", "--gid=2345", "app") // systemd wants to know the group
	h.PutFile(h.UnitDir+"/app-proxy.service.d/group.conf", "[Service]\nSupplementaryGroups=app\n")
	h.Control("stop", "app-proxy.service")
	h.Reload()
	h.Asleep()
}
