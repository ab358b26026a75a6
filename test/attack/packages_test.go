package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// T2: while root installs, upgrades or removes the package on a terminal, with a
// secret in the environment, a user stops their own manager, so that whoever asks
// it waits, and looks through all of their processes: for root's terminal, to
// write on it, and for the secret. What they find they stop, too.
func TestPackageScripts(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	for _, kind := range harness.PackageKinds() {
		t.Run(kind.Name, func(t *testing.T) {
			sleeper(t, m)
			attackRoot(t, m, kind.Install)
			before := make(map[string]string)
			harness.Each(t, m, func(t *testing.T, h *harness.Host) {
				h.WaitState("app-proxy.socket", "active") // the reload was not lost on the stopped manager
				before[h.Name] = h.Property("app-proxy.socket", "InvocationID")
			})
			attackRoot(t, m, kind.Upgrade)
			harness.Each(t, m, func(t *testing.T, h *harness.Host) {
				if h.UserManager {
					// Its reload may have come before its look at the programs.
					h.Wait("the upgrade is seen, and is no removal", func() bool {
						m.Root().Must(t, "touch", "/usr/libexec/zerolet/zerolet-proxy")
						return h.Property("zerolet-removed.service", "ExecMainExitTimestampMonotonic") != "0"
					})
					h.WatchesPrograms() // anew
				}
				h.Expect("app-proxy.socket", "active")
				if h.Property("app-proxy.socket", "InvocationID") != before[h.Name] {
					t.Error("the upgrade has stopped the socket")
				}
			})
			attackRoot(t, m, kind.Remove)
			harness.Each(t, m, func(t *testing.T, h *harness.Host) { h.WaitState("app-proxy.socket", "inactive") })
		})
	}
}

// C11: an administrator's units that are named as zerolet's are, one of which
// has lost its file, outlive the package.
func TestPackageStopsNoStranger(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	for _, kind := range harness.PackageKinds() {
		t.Run(kind.Name, func(t *testing.T) {
			sleeper(t, m)
			m.Root().Must(t, "sh", "-c", kind.Install)
			harness.Each(t, m, func(t *testing.T, h *harness.Host) {
				h.WaitState("app-proxy.socket", "active")
				const service = "[Service]\nExecStart=/usr/bin/sleep infinity\n"
				h.PutFile(h.UnitDir+"/foo.service", service)
				h.PutFile(h.UnitDir+"/foo-proxy.service", service)
				h.PutFile(h.UnitDir+"/foo-proxy.socket", "[Socket]\nListenStream=%t/foo.sock\n")
				h.Reload()
				h.Control("start", "foo.service", "foo-proxy.socket")
				h.Must(t, "rm", h.UnitDir+"/foo-proxy.socket")
				h.WatchesPrograms()
			})
			m.Root().Must(t, "sh", "-c", kind.Remove)
			harness.Each(t, m, func(t *testing.T, h *harness.Host) {
				h.WaitState("app-proxy.socket", "inactive")
				h.Expect("foo.service", "active")
				h.Expect("foo-proxy.socket", "active")
				h.Control("stop", "foo.service", "foo-proxy.socket")
			})
		})
	}
}

// sleeper declares a service for each manager.
func sleeper(t *testing.T, m *lab.Machine) {
	t.Helper()
	for i, s := range m.Sessions() {
		if err := s.Put(t.Context(), "app.container", fmt.Sprintf("[Container]\nImage=localhost/none\nPublishPort=%d:80\n[ScaleToZero]\n", 8080+i)); err != nil {
			t.Fatal(err)
		}
	}
}

// mallory says what they have found, for as long as they live. The kernel shows
// the descriptors and the environment of one's own processes, proc_pid_fd(5), and
// gives the former away: pidfd_getfd(2) is 438, pidfd_open(2) 434.
const mallory = `
write='open my $tty, ">&=", syscall 438, syscall(434, $ARGV[0]+0, 0), $ARGV[1]+0, 0; print $tty "mallory was here\n"'
while :; do
	for fd in $(find /proc/[0-9]*/fd -lname '/dev/pts/*' 2>/dev/null); do
		pid=${fd#/proc/} pid=${pid%%/*}
		kill -STOP "$pid" && echo "$fd is root's terminal" && perl -e "$write" "$pid" "${fd##*/}"
	done
	grep -saho 'ROOT_SECRET=[^[:cntrl:]]*' /proc/[0-9]*/environ
done`

// attackRoot has root run a command under attack.
func attackRoot(t *testing.T, m *lab.Machine, command string) {
	t.Helper()
	root, user := m.Root(), m.User()
	manager := root.Must(t, "systemctl", "show", "--property=MainPID", "--value", "user@1000.service")
	user.Must(t, "kill", "-STOP", manager)

	ctx, end := context.WithCancel(t.Context())
	defer end()
	attack := user.Command(ctx, "sh", "-c", mallory)
	var found bytes.Buffer
	attack.Stdout = &found
	if err := attack.Start(); err != nil {
		t.Fatal(err)
	}

	secret := rand.Text()
	limited, cancel := context.WithTimeout(t.Context(), harness.Patience)
	defer cancel()
	out, err := root.Run(limited, "env", "ROOT_SECRET="+secret, "script", "--quiet", "--flush", "--return", "--command", command, "/dev/null")
	if limited.Err() != nil {
		t.Errorf("%s: held up", command)
	} else if err != nil {
		t.Errorf("%v\n%s", err, out.Stdout)
	}
	end()
	var killed *exec.ExitError
	if err := attack.Wait(); !errors.As(err, &killed) {
		t.Errorf("the attack ended by itself: %v", err)
	}
	user.Must(t, "kill", "-CONT", manager)

	if found.Len() > 0 {
		lines := strings.SplitAfterN(found.String(), "\n", 6)
		t.Errorf("%s: a user has found\n%s", command, strings.Join(lines[:min(5, len(lines))], ""))
	}
	if strings.Contains(out.Stdout, "mallory was here") {
		t.Errorf("%s: a user wrote on root's terminal", command)
	}
	if t.Failed() {
		t.FailNow() // what was stopped holds the locks
	}
}
