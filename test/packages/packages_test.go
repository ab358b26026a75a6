// Package packages installs what "make package" makes on a machine, upgrades it
// under traffic, and removes it again.
package packages

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Each kind: what is installed works, an upgrade loses nobody, and nothing is
// left when it is gone.
func TestPackages(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	for _, kind := range harness.PackageKinds() {
		t.Run(kind.Name, func(t *testing.T) { life(t, m, kind) })
	}
}

// expectVersion asks the three programs for theirs.
func expectVersion(t *testing.T, root *lab.Session, want string) {
	t.Helper()
	for _, program := range []string{"/usr/bin/zerolet", "/usr/libexec/zerolet/zerolet-generator", "/usr/libexec/zerolet/zerolet-proxy"} {
		if got := root.Must(t, program, "--version"); got != filepath.Base(program)+" "+want {
			t.Errorf("%s is %q, want %s", program, got, want)
		}
	}
}

func life(t *testing.T, m *lab.Machine, kind harness.PackageKind) {
	root := m.Root()
	// The files are there before: that the managers find the generator is the package's work.
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("app.container", fmt.Sprintf("[Container]\nImage=%s\nExec=-http :80 -echo :7\n%s\nPublishPort=%d:7\n[ScaleToZero]\n",
			image, h.Publish(), h.Port+10))
		h.PutFile("page.container", fmt.Sprintf("[Container]\nImage=%s\nExec=-echo :80\nPublishPort=%d:80\n[ScaleToZero]\nWaitingPage=yes\n", image, h.Port+20))
	})
	root.Must(t, "sh", "-c", kind.Install)
	expectVersion(t, root, "0.1.0")
	var held []net.Conn
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.WaitState("app-proxy.socket", "active")
		h.MustGet()
		c, err := m.Dial(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", h.Port+10))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		echo(t, c)
		h.WaitState("page-proxy.socket", "active")
		wait := h.ConnectTo(h.Port + 20)
		echo(t, wait)
		_ = wait.Close()
	})
	t.Cleanup(func() {
		for _, c := range held {
			c.Close()
		}
	})

	stop, ended := make(chan struct{}), make(chan error)
	for _, s := range m.Sessions() {
		h := &harness.Host{T: t, Session: s, M: m, Port: map[bool]int{false: 8080, true: 8081}[s.UserManager]}
		go func() { ended <- requests(h, stop) }()
	}
	root.Must(t, "sh", "-c", kind.Upgrade)
	expectVersion(t, root, "0.1.1")
	close(stop)
	for range m.Sessions() {
		if err := <-ended; err != nil {
			t.Errorf("a request while it was upgraded: %v", err)
		}
	}
	for i, c := range held {
		echo(t, c)
		if i > 0 { // the first one's proxy drains in vain, the others need not
			c.Close()
		}
	}
	// The SIGHUP of the upgrade is done with before this reload is: a path unit
	// that comes back after the removal would have nothing to see.
	state := map[bool]string{false: "/var/lib/zerolet", true: m.User().Home + "/.local/state/zerolet"} // of updates
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.Must(t, "mkdir", "-p", state[h.UserManager]+"/updates")
		h.Reload()
		h.Must(t, "zerolet", "apply")
		h.Must(t, "podman", "pod", "exists", "zerolet-keep")
		h.Must(t, "sh", "-c", "systemctl "+map[bool]string{true: "--user"}[h.UserManager]+" cat zerolet-update.timer")
	})

	// Of both: how long a wake has taken, and how the container has ended.
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.Must(t, "zerolet", "sleep", "page")
		cache := map[bool]string{false: "/var/cache", true: h.Home + "/.cache"}[h.UserManager]
		for _, path := range []string{cache + "/zerolet-wakes/page/times", h.RuntimeDir + "/zerolet-page/page/page.service"} {
			h.Must(t, "test", "-s", path)
		}
		h.WatchesPrograms()
	})
	root.Must(t, "sh", "-c", kind.Remove)
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		for _, unit := range []string{"app-proxy.socket", "app-proxy.service", "app.service", "zerolet-removed.path", "zerolet-removed.service"} {
			h.WaitState(unit, "inactive")
		}
		if left := h.Must(t, "podman", "ps", "--quiet"); left != "" {
			t.Errorf("a container runs on: %s", left)
		}
		if left := h.Must(t, "podman", "pod", "ps", "--quiet"); left != "" {
			t.Errorf("Podman still keeps what it used: %s", left)
		}
		if _, err := h.Session.Run(t.Context(), "test", "-e", state[h.UserManager]); err == nil {
			t.Errorf("%s is left", state[h.UserManager])
		}
		if _, err := h.Get(); err == nil {
			t.Error("somebody listens yet")
		}
		h.Must(t, "rm", filepath.Join(h.QuadletDir, "app.container"), filepath.Join(h.QuadletDir, "page.container"))
		h.Reload()
	})
	left := root.Must(t, "sh", "-c", "find /usr /etc /var/lib/systemd /var/cache/private /run /run/user/* -xdev -name '*zerolet*' -not -path '/usr/share/doc/*' 2>/dev/null; "+
		"ls -d /var/cache/zerolet* /home/*/.cache/zerolet* 2>/dev/null || true")
	if strings.TrimSpace(left) != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// requests makes one request after another until stop, at least one.
func requests(h *harness.Host, stop <-chan struct{}) error {
	for {
		if _, err := h.Get(); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		default:
		}
	}
}

func echo(t *testing.T, c net.Conn) {
	t.Helper()
	const line = "still here\n"
	got := make([]byte, len(line))
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
		t.Fatalf("read %q, %v", got, err)
	}
}
