package reach

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// isolated is how the tests put a process into a network of its own.
func isolated(t *testing.T) string {
	t.Helper()
	how := "unshare -n"
	if os.Getuid() != 0 {
		how = "unshare -Urn"
	}
	if out, err := exec.Command("sh", "-c", how+" true").CombinedOutput(); err != nil {
		t.Skipf("%s: %s", how, out)
	}
	return how
}

// conmonOf is a process with the children of a shell script, which says "ready".
func conmonOf(t *testing.T, script string) whereabouts {
	t.Helper()
	cmd := exec.Command("sh", "-c", script+"\necho ready\nread end")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin := proxytest.Must(cmd.StdinPipe())(t)
	stdout := proxytest.Must(cmd.StdoutPipe())(t)
	proxytest.Must(0, cmd.Start())(t)
	t.Cleanup(func() {
		stdin.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	proxytest.Must(io.ReadFull(stdout, make([]byte, len("ready\n"))))(t)
	pidfile := filepath.Join(t.TempDir(), "pid")
	proxytest.Must(0, os.WriteFile(pidfile, fmt.Append(nil, cmd.Process.Pid), 0o600))(t)
	return whereabouts{pidfile: pidfile, conmon: true, unit: "shop-pod.service", cgroup: cgroupFile(t, "0::/shop-pod.service\n")}
}

// Of conmon's children the container is the one in a network of its own, and only
// a child is: what that one has begun is somebody else's.
func TestChildOfConmon(t *testing.T) {
	own := isolated(t)
	for script, want := range map[string]error{
		"sleep 1000 & " + own + " sleep 1000 &": nil,
		own + " sleep 1000 & sleep 1000 &":      nil,
		"sleep 1000 &":                          errHostNetwork,
		"true":                                  ErrNoContainer,
		"sh -c '" + own + " sleep 1000 & sleep 1000; :' &": errHostNetwork,
	} {
		w := conmonOf(t, script)
		var c *container
		var err error
		proxytest.Eventually(t, script, func() bool { // unshare(1) may not have come so far
			c, err = openContainer(w)
			return errors.Is(err, want) && (err == nil) == (want == nil)
		})
		if err != nil {
			continue
		}
		if !c.isAlive() || c.net == nil {
			t.Errorf("%s: no live process in a network of its own", script)
		}
		c.close()
		w.unit = "other.service"
		if _, err := openContainer(w); err == nil || !strings.Contains(err.Error(), "not in other.service") {
			t.Errorf("%s: a conmon of another unit: %v", script, err)
		}
	}
}

// A child is one as long as its parent is there.
func TestOrphanOfConmon(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	proxytest.Must(0, cmd.Start())(t)
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	fd, err := openChild(cmd.Process.Pid, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := openChild(cmd.Process.Pid, 1); !errors.Is(err, ErrNoContainer) {
		t.Errorf("the child of another one: %v", err)
	}
}

// The conmon of an infra container is known by the name of that one.
func TestConmonOfInfra(t *testing.T) {
	for args, want := range map[string]bool{
		"/usr/bin/conmon -n shop-infra": true,
		"conmon -n infra-x":             false,
		"conmon -n":                     false,
		"conmon x-infra":                false,
		"conmonx -n shop-infra":         false,
	} {
		words := strings.Fields(args)
		cmd := &exec.Cmd{Path: proxytest.Must(exec.LookPath("sh"))(t), Args: append([]string{words[0], "-c", "echo; read end; :", "sh"}, words[1:]...)}
		stdin := proxytest.Must(cmd.StdinPipe())(t)
		stdout := proxytest.Must(cmd.StdoutPipe())(t)
		proxytest.Must(0, cmd.Start())(t)
		// The kernel lets Start go on before /proc shows the new command line.
		proxytest.Must(stdout.Read(make([]byte, 1)))(t)
		if got := isConmonOfInfra(cmd.Process.Pid); got != want {
			t.Errorf("%s: %v", args, got)
		}
		stdin.Close()
		_ = cmd.Wait()
	}
}
