package reliability

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// The proxy's sandbox is as tight as docs/internals/security.md says. What runs in it
// cannot listen: the proxy starts only after systemd-socket-activate was told
// so; else that would wait for clients and the proxy would never start.
func TestExposure(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		dropIn(h, "app-proxy.service", "[Service]",
			`ExecStartPre=sh -c 'systemd-socket-activate --listen=@7777 true 2>&1 | grep -q "Operation not permitted"'`)
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.App("host", "-http :9090", "Network=host", "[ScaleToZero]", fmt.Sprintf("Listen=%d:9090", h.Port+20))
		scope, most := "--system", map[string]int{"app-proxy.service": 8, "app-entry.service": 43, "host-entry.service": 31} // tenths
		if h.UserManager {
			scope, most = "--user", map[string]int{"app-proxy.service": 66}
		}
		for unit, tenths := range most {
			out, err := h.Session.Run(t.Context(), "systemd-analyze", scope, "security", "--no-pager",
				fmt.Sprintf("--threshold=%d", tenths), unit)
			if err != nil {
				t.Errorf("%s: %v\n%s", unit, err, out.Stdout)
			}
			t.Log(regexp.MustCompile(`Overall exposure.*`).FindString(out.Stdout))
		}
		h.MustGet()
		h.Asleep()
	})
}

// The pidfile names a process that is not the container's: an old pid that is
// in use again, or what somebody has put there, as a file or as a link. The
// client is not handed to it.
func TestPIDFileOfAnother(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		other, own := filepath.Join(h.RuntimeDir, "other.pid"), filepath.Join(h.RuntimeDir, "app.pid")
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		scope := "--system"
		if h.UserManager {
			scope = "--user"
		}
		h.Must(t, "systemd-run", scope, "--unit=other", "podman", "run", "--rm", "--pidfile="+other, "--name=other", image, "-http", ":80")
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
			h.Wait("this proxy has looked at the pidfile", func() bool {
				return len(records(h, "_PID="+h.Property("app-proxy.service", "MainPID"), "--grep=trying again")) > 0
			})
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
		// Root of the container, with more capabilities than Podman leaves it. CAP_PERFMON may read memory, too
		// (may_access_mm() in kernel/fork.c).
		unprivileged := []string{"setpriv", "--bounding-set=-sys_ptrace,-sys_admin,-perfmon", "--inh-caps=-all"}
		cases := map[string][]string{"": unprivileged}
		if h.UserManager {
			// A container that runs with the user's own uid, as the proxy does.
			cases["UserNS=keep-id"] = nil
		}
		for userns, inside := range cases {
			h.App("app", "-http :8080", fmt.Sprintf("PublishPort=%d:8080", h.Port), userns, "[ScaleToZero]", "IdleTimeout=1s")
			c := h.Connect()
			h.MustGet()
			helper := waitReaching(h)
			if h.UserManager {
				inside = append([]string{"nsenter", "--target", containerPID(h), "--user", "--preserve-credentials"}, inside...)
			}
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
// streams, the socket 3, and what Go's runtime has. What it has passed on it
// closes a moment after.
func helperFiles(h *harness.Host, helper string) {
	h.Helper()
	var more string
	defer func() {
		if more != "" {
			h.Logf("the helper has%s", more)
		}
	}()
	h.Wait("the helper has no more open than it needs", func() bool {
		more = ""
		dir := h.M.Host("/proc/" + helper + "/fd")
		files, err := os.ReadDir(dir)
		if err != nil {
			h.Fatal(err)
		}
		for _, file := range files {
			target, err := os.Readlink(filepath.Join(dir, file.Name()))
			if n, e := strconv.Atoi(file.Name()); err != nil || e != nil || n > 3 && !strings.HasPrefix(target, "anon_inode:") {
				more += fmt.Sprintf(" %s -> %s", file.Name(), target)
			}
		}
		return more == ""
	})
}
