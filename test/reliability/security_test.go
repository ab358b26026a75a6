package reliability

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// The proxy's sandbox is as tight as docs/security.md says. What runs in it
// cannot listen: the proxy starts only after systemd-socket-activate was told
// so; else that would wait for clients and the proxy would never start.
func TestExposure(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app-proxy.service", "[Service]",
			`ExecStartPre=sh -c 'systemd-socket-activate --listen=127.0.0.1:7777 true 2>&1 | grep -q "Operation not permitted"'`)
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		scope, most := "--system", 11 // tenths
		if h.UserManager {
			scope, most = "--user", 66
		}
		out, err := h.Session.Run(t.Context(), "systemd-analyze", scope, "security", "--no-pager",
			fmt.Sprintf("--threshold=%d", most), "app-proxy.service")
		overall := regexp.MustCompile(`Overall exposure.*`).FindString(out.Stdout)
		if err != nil {
			t.Errorf("%v\n%s", err, out.Stdout)
		}
		t.Log(overall)
		h.MustGet()
		h.Asleep()
	})
}

// evil answers every request with its name, on a port of the host.
func evil(h *harness.Host, address string) (stop func()) {
	h.Helper()
	var l net.Listener
	err := h.M.Network(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "evil") })}
	go server.Serve(l)
	return func() { server.Close() }
}

// A local user takes the private port of a sleeping rootful container. The
// container cannot start then, but no client is handed to the thief, and once
// the thief is gone the client who waits is served.
func TestPrivatePortStolen(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if h.UserManager {
			t.Skip("the user's containers have no port on the host")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		private := regexp.MustCompile(`=(127\.0\.0\.1:\d+) `).FindStringSubmatch(h.Property("app-proxy.service", "ExecStart") + " ")
		if private == nil {
			t.Fatal("no private port")
		}
		stop := evil(h, private[1])
		a := background(h)
		h.Wait("the container cannot start", func() bool { return contains(h, "app.service", "Failed to start") })
		h.WaitState("app-proxy.service", "active")
		stop()
		if id := (<-a).must(h); id == "evil" {
			t.Error("the client was handed to the thief")
		}
		h.Asleep()
	})
}

// The pidfile names a process that is not the container's: an old pid that is
// in use again, or what somebody has put there, as a file or as a link. The
// client is not handed to it.
func TestPIDFileOfAnother(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if !h.UserManager {
			t.Skip("no pidfile is used for root's containers")
		}
		other, own := filepath.Join(h.RuntimeDir, "other.pid"), filepath.Join(h.RuntimeDir, "app.pid")
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.Must(t, "systemd-run", "--user", "--unit=other", "podman", "run", "--rm", "--pidfile="+other, "--name=other", image, "-http", ":80")
		h.Wait("the other container runs", func() bool {
			out, err := h.Session.Run(t.Context(), "podman", "logs", "other")
			return err == nil && strings.Contains(out.Stdout, "listening")
		})
		id := strings.TrimPrefix(h.Must(t, "podman", "logs", "other"), "listening ")
		for _, put := range []string{"cp", "ln -sf"} {
			repair := breakStart(h, "app.service", fmt.Sprintf("rm -f %s; test ! -e %%t/broken || %s %s %s; ", own, put, other, own))
			h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
			dropIn(h, "app.service", append(strings.Split(readDropIn(h, "app.service"), "\n"), "ExecStopPost=")...)
			h.Reload()
			a := background(h)
			h.Wait("the proxy has looked at the pidfile", func() bool { return contains(h, "app-proxy.service", "trying again") })
			repair()
			if got := strings.TrimSpace((<-a).must(h)); got == id {
				t.Errorf("%s: another container answered", put)
			}
			h.WaitState("app-proxy.service", "inactive")
			h.Must(t, "rm", "-f", own)
		}
		h.Control("stop", "other.service")
	})
}

func readDropIn(h *harness.Host, unit string) string {
	h.Helper()
	return h.Must(h.T, "cat", filepath.Join(h.UnitDir, unit+".d", "50-test.conf"))
}

// The helper that reaches into the container's namespaces cannot be traced by
// what runs there, and has the proxy's socket and nothing else.
func TestHelperIsClosed(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if !h.UserManager {
			t.Skip("the system's proxy has no helper")
		}
		for userns, as := range map[string][]string{
			// Root of the container, with more capabilities than Podman leaves it.
			"": {"setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"},
			// A container that runs with the user's own uid, as the proxy does.
			"UserNS=keep-id": nil,
		} {
			h.App("app", "-http :8080", fmt.Sprintf("PublishPort=%d:8080", h.Port), userns, "[ScaleToZero]", "IdleTimeout=1s")
			c := h.Connect()
			h.MustGet()
			helper := h.Must(t, "pgrep", "-P", h.Property("app-proxy.service", "MainPID"))
			inside := append([]string{"nsenter", "--target", containerPID(h), "--user", "--preserve-credentials"}, as...)
			h.Must(t, append(inside, "cat", "/proc/self/environ")...)
			if _, err := h.Session.Run(t.Context(), append(inside, "cat", "/proc/"+helper+"/environ")...); err == nil {
				t.Errorf("%q: the container may trace the helper", userns)
			}
			helperFiles(h, helper)
			c.Close()
			h.Asleep()
		}
	})
}

// helperFiles fails the test if the helper has more open than its standard
// streams, the socket 3, and what Go's runtime has.
func helperFiles(h *harness.Host, helper string) {
	h.Helper()
	root := h.M.Root()
	for fd := range strings.FieldsSeq(root.Must(h.T, "ls", "/proc/"+helper+"/fd")) {
		target := root.Must(h.T, "readlink", "/proc/"+helper+"/fd/"+fd)
		if n, err := strconv.Atoi(fd); err != nil || n > 3 && !strings.HasPrefix(target, "anon_inode:") {
			h.Errorf("the helper has %s -> %s", fd, target)
		}
	}
}
