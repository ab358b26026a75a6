package attack

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// Whoever can write where an app has its unix socket puts something else there.
// First of all that is the container itself, with what it may do in its volume.
// The prize is a bus: any answer of it shows that the client has been led there
// with what the proxy may do.
func TestUnixSocketTaken(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dir, bus := h.Home+"/app", h.RuntimeDir+"/bus"
		if !h.UserManager {
			dir, bus = "/srv/app", "/run/dbus/system_bus_socket"
		}
		h.Must(t, "mkdir", "--parents", dir+"/below")
		want := map[string]string{
			"a link": "bus is a symbolic link", "a directory": "below is a symbolic link",
			"another listener": "listens there: not in the container's unit",
		}
		for name, put := range map[string][]string{
			"a link":           {"ln", "-sf", bus, dir + "/below/bus"},
			"a directory":      {"sh", "-c", fmt.Sprintf("rm -rf %[1]s/below && ln -s %[2]s %[1]s/below", dir, filepath.Dir(bus))},
			"another listener": {"systemd-run", scope(h), "--unit=thief", "systemd-socket-activate", "--listen=" + dir + "/below/bus", "--accept", "--inetd", "cat"},
		} {
			path := dir + "/below/bus"
			if name == "a directory" {
				path = dir + "/below/" + filepath.Base(bus)
			}
			h.Must(t, put...)
			if name == "another listener" { // who lets everybody in
				h.Wait("the thief listens", func() bool {
					_, err := h.Session.Run(t.Context(), "chmod", "777", path)
					if err != nil {
						return false
					}
					c, err := h.M.Dial(t.Context(), "unix", path) // which a socket with a name need not do yet
					return err == nil && c.Close() == nil
				}, "thief.service")
			}
			h.App("app", "-http :80", "Network=none", "Volume="+dir+":/run/app",
				"[ScaleToZero]", "IdleTimeout=1s", fmt.Sprintf("Listen=%d:%s", h.Port, path))
			c := h.Connect()
			said := make(chan string, 1)
			go func() { said <- ask(c) }()
			h.Wait(name+" is told or answers", func() bool {
				text, err := h.Journal(t.Context(), "app-proxy.service")
				return len(said) > 0 || err == nil && strings.Contains(text, "connect unix:"+path) && strings.Contains(text, want[name])
			}, "app-proxy.service")
			leave(c)
			if got := <-said; got != "" {
				t.Errorf("%s: the client was answered %q", name, got)
			}
			h.Asleep()
			h.Must(t, "sh", "-c", "rm -rf "+dir+"/below; mkdir "+dir+"/below; systemctl "+scope(h)+" stop thief.service || :")
		}
	})
}

// The container moves the service's own public socket to where the app's is. No
// client of it is ever led there, so that it leads nobody round and round.
func TestUnixSocketLoop(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dir := "/srv/app"
		if h.UserManager {
			dir = h.Home + "/app"
		}
		h.Must(t, "mkdir", "--parents", dir)
		h.App("app", "-http :80", "Network=none", "Volume="+dir+":/run/app", "[ScaleToZero]", "IdleTimeout=1s",
			fmt.Sprintf("Listen=%d:%s/app.sock", h.Port, dir), fmt.Sprintf("Listen=%[1]s/public.sock:%[1]s/app.sock", dir))
		for _, put := range []string{"mv", "ln -sf"} {
			h.Must(t, "sh", "-c", fmt.Sprintf("cd %s && %s public.sock app.sock", dir, put))
			looks := func() int {
				text, _ := h.Journal(t.Context(), "app-proxy.service")
				return strings.Count(text, "connect unix:"+dir+"/app.sock")
			}
			before := looks()
			c := h.Connect()
			// What it met is told at once, or the more connections it makes the more it tells.
			h.Wait("the proxy has looked, or goes round", func() bool {
				return accepted(h) > few || looks() > before
			}, "app-proxy.service")
			if n := accepted(h); n > few {
				t.Errorf("%s: one client became %d", put, n)
			}
			leave(c)
			h.Control("stop", "app-proxy.socket", "app-proxy.service", "app.service")
			h.Control("start", "app-proxy.socket") // makes its file anew
		}
	})
}

// few connections may be on the way before the first has shown where it ends.
const few = 5

// accepted is how many connections the proxy says it has accepted.
func accepted(h *harness.Host) int {
	h.Helper()
	m := regexp.MustCompile(`(\d+) accepted`).FindStringSubmatch(h.Property("app-proxy.service", "StatusText"))
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// leave resets: a client who only ends what it says may wait for an answer yet.
func leave(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// ask says something that a bus answers, and a thief, and returns the answer.
func ask(c net.Conn) string {
	_, _ = io.WriteString(c, "\x00AUTH\r\n")
	_ = c.SetReadDeadline(time.Now().Add(harness.Patience))
	answer := make([]byte, 100)
	n, _ := c.Read(answer) // nothing is what is hoped for
	return string(answer[:n])
}

func scope(h *harness.Host) string {
	if h.UserManager {
		return "--user"
	}
	return "--system"
}
