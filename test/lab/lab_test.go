package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// The base of everything: a container of each user answers over the machine's loopback, started by hand and
// by Quadlet.
func TestContainers(t *testing.T) {
	m := lab.New(t, lab.Options{})
	for _, s := range m.Sessions() {
		t.Run(s.Name, func(t *testing.T) {
			// On the machine's own overlay Podman would fall back to copying whole images.
			driver := s.Must(t, "podman", "info", "--format", `{{.Store.GraphDriverName}} {{index .Store.GraphStatus "Native Overlay Diff"}}`)
			if driver != "overlay true" {
				t.Errorf("storage driver is %q", driver)
			}
			image := must(s.AppImage(t.Context()))(t)
			s.Must(t, "podman", "run", "--detach", "--rm", "--name=hand", "--publish=127.0.0.1:8080:80", image, "-http", ":80")
			first := eventually(t, s, m, "http://127.0.0.1:8080/")
			remove(t, s, m, "hand")

			quadlet := "[Container]\nImage=" + image + "\nExec=-http :80\nPublishPort=127.0.0.1:8080:80\n"
			if err := s.Put(t.Context(), "web.container", quadlet); err != nil {
				t.Fatal(err)
			}
			must(s.Systemctl(t.Context(), "daemon-reload"))(t)
			must(s.Systemctl(t.Context(), "start", "web.service"))(t)
			second := eventually(t, s, m, "http://127.0.0.1:8080/", "web.service")
			if first == second {
				t.Errorf("two starts have one start id %q", first)
			}
			if state := must(s.Show(t.Context(), "web.service", "ActiveState"))(t); state != "active" {
				t.Errorf("web.service is %q", state)
			}
			s.WaitFor(t, time.Minute, "the journal of web.service has the app's first line", func() (bool, error) {
				journal, err := s.Journal(t.Context(), "web.service")
				return strings.Contains(journal, "listening "+second), err
			}, "web.service")
			showsTheSame(t, s, "web.service", "init.scope", "none.socket")
			must(s.Systemctl(t.Context(), "stop", "web.service"))(t)
			free(t, s, m)
		})
	}
	if failed := must(m.Failed(t.Context()))(t); len(failed) > 0 {
		t.Errorf("failed units: %q", failed)
	}
}

// showsTheSame compares what Show says with what systemctl does.
func showsTheSame(t *testing.T, s *lab.Session, units ...string) {
	t.Helper()
	for _, unit := range units {
		for _, property := range []string{
			"ActiveState", "SubState", "LoadState", "FragmentPath", "InvocationID", "StatusText", "Result", "MainPID", "ExecStart",
			"Listen", "ActiveEnterTimestampMonotonic", "Nothing",
		} {
			out := must(s.Systemctl(t.Context(), "show", "--property", property, "--value", unit))(t)
			if got := must(s.Show(t.Context(), unit, property))(t); got != strings.TrimSuffix(out.Stdout, "\n") {
				t.Errorf("%s of %s is %q, systemctl says %q", property, unit, got, out.Stdout)
			}
		}
	}
}

func TestNginxImage(t *testing.T) {
	m := lab.New(t, lab.Options{})
	for _, s := range m.Sessions() {
		t.Run(s.Name, func(t *testing.T) {
			image := must(s.NginxImage(t.Context()))(t)
			s.Must(t, "podman", "run", "--detach", "--rm", "--name=nginx", "--publish=127.0.0.1:8080:80", image)
			if page := eventually(t, s, m, "http://127.0.0.1:8080/"); !strings.Contains(page, "Welcome to nginx") {
				t.Errorf("got %q", page)
			}
			remove(t, s, m, "nginx")
		})
	}
}

// The other suites have the systemd and the Podman that tests go there for, and they work for both users.
// Each builds its tree beside the other's.
func TestSuites(t *testing.T) {
	for suite, versions := range map[string][2]string{
		"bookworm": {`^systemd 252 `, `^podman version 4\.3\.`},
		// Until it is released it gets newer ones.
		"forky": {`^systemd (26[2-9]|2[7-9]\d) `, `^podman version (5\.([89]|\d\d)|[6-9]\.)`},
	} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			m := lab.New(t, lab.Options{Suite: suite})
			for i, program := range []string{"systemctl", "podman"} {
				if got := m.Root().Must(t, program, "--version"); !regexp.MustCompile(versions[i]).MatchString(got) {
					t.Errorf("got %q, want %s", got, versions[i])
				}
			}
			for _, s := range m.Sessions() {
				showsTheSame(t, s, "init.scope")
				image := must(s.AppImage(t.Context()))(t)
				s.Must(t, "podman", "run", "--detach", "--rm", "--name=hand", "--publish=127.0.0.1:8080:80", image, "-http", ":80")
				eventually(t, s, m, "http://127.0.0.1:8080/")
				remove(t, s, m, "hand")
			}
			if failed := must(m.Failed(t.Context()))(t); len(failed) > 0 {
				t.Errorf("failed units: %q", failed)
			}
		})
	}
}

// Files, images and lingering survive a reboot and a power cut; processes do not.
func TestBootAgain(t *testing.T) {
	m := lab.New(t, lab.Options{})
	boots := map[string]bool{bootID(t, m): true}
	for _, s := range m.Sessions() {
		must(s.AppImage(t.Context()))(t)
		if err := s.Put(t.Context(), "kept/file", s.Name); err != nil {
			t.Fatal(err)
		}
		s.Must(t, "podman", "run", "--detach", "--name=running", "localhost/app", "-http", ":80")
	}
	kill := func(ctx context.Context) error { return errors.Join(m.Kill(), m.Boot(ctx)) }
	for name, again := range map[string]func(context.Context) error{"reboot": m.Reboot, "power cut": kill} {
		if err := again(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		boots[bootID(t, m)] = true
		for _, s := range m.Sessions() {
			if got := s.Must(t, "cat", s.QuadletDir+"/kept/file"); got != s.Name {
				t.Errorf("after %s: %s: file holds %q", name, s.Name, got)
			}
			s.Must(t, "podman", "image", "exists", "localhost/app")
			if got := s.Must(t, "podman", "ps", "--quiet"); got != "" {
				t.Errorf("after %s: %s: container still runs: %s", name, s.Name, got)
			}
		}
	}
	if len(boots) != 3 {
		t.Errorf("3 boots have %d boot ids", len(boots))
	}
	if state := m.Root().Must(t, "systemctl", "is-active", "network-online.target"); state != "active" {
		t.Errorf("network-online.target is %q", state)
	}
}

// Two machines share neither ports, nor files, nor control groups.
func TestSideBySide(t *testing.T) {
	machines := []*lab.Machine{lab.New(t, lab.Options{}), lab.New(t, lab.Options{})}
	ids, groups := map[string]bool{}, map[string]bool{}
	for _, m := range machines {
		group := must(os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", m.Leader())))(t)
		groups[string(group)] = true
		for _, s := range m.Sessions() {
			image := must(s.AppImage(t.Context()))(t)
			port := map[bool]string{false: "8080", true: "8081"}[s.UserManager]
			s.Must(t, "podman", "run", "--detach", "--name=same", "--publish=127.0.0.1:"+port+":80", image, "-http", ":80")
		}
	}
	for _, m := range machines {
		for _, port := range []string{"8080", "8081"} {
			ids[eventually(t, m.Root(), m, "http://127.0.0.1:"+port+"/")] = true
		}
	}
	if len(groups) != 2 {
		t.Errorf("both machines are in group %v", groups)
	}
	if len(ids) != 4 {
		t.Errorf("4 containers have %d start ids", len(ids))
	}
	if err := machines[0].Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, machines[1].User(), machines[1], "http://127.0.0.1:8081/")
}

// The ways of the app, which tests of the proxy rely on, seen by a client with control of its socket.
func TestDial(t *testing.T) {
	m := lab.New(t, lab.Options{})
	s := m.User()
	image := must(s.AppImage(t.Context()))(t)
	s.Must(t, "mkdir", s.RuntimeDir+"/app")
	s.Must(t, "podman", "run", "--detach", "--rm", "--network=host", "--volume="+s.RuntimeDir+"/app:/app.d", image,
		"-echo", ":2007", "-sum", ":2009", "-greet", ":2010", "-reset", ":2011", "-cut", ":2012", "-echo", "unix:/app.d/echo", "-http", ":2080")
	id := eventually(t, s, m, "http://127.0.0.1:2080/")

	megabyte := strings.Repeat("zerolet\n", 1<<17)
	for _, c := range []struct{ network, address, send, want string }{
		{"tcp", "127.0.0.1:2007", megabyte, megabyte},
		{"tcp", "[::1]:2007", "ping", "ping"},
		{"unix", s.RuntimeDir + "/app/echo", "ping", "ping"},
		{"tcp", "127.0.0.1:2009", megabyte, "1048576\n"},
		{"tcp", "127.0.0.1:2010", "", id + "\n"},
	} {
		if got, err := exchange(t, m, c.network, c.address, c.send); err != nil || got != c.want {
			t.Errorf("%s %s: got %d bytes and %v, want %d bytes", c.network, c.address, len(got), err, len(c.want))
		}
	}
	// The reset can come before the client knows that it is connected.
	if _, err := exchange(t, m, "tcp", "127.0.0.1:2011", ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: got %v", err)
	}
	if got, err := exchange(t, m, "tcp", "127.0.0.1:2012", "x"); got != id+"\n" || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("cut: got %q, %v", got, err)
	}
	if _, err := m.Dial(t.Context(), "tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: got %v", err)
	}
	if _, err := m.Dial(t.Context(), "tcp", "localhost:2007"); err == nil {
		t.Error("a name was dialled")
	}
}

// exchange sends, ends its side, and reads to the end of the other. What came before an error is returned too.
func exchange(t *testing.T, m *lab.Machine, network, address, send string) (string, error) {
	t.Helper()
	conn, err := m.Dial(t.Context(), network, address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	go func() {
		io.WriteString(conn, send)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	return string(got), err
}

func TestRun(t *testing.T) {
	m := lab.New(t, lab.Options{})
	s := m.User()

	out, err := s.Run(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 7")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("got error %v", err)
	}
	if want := (lab.Output{Stdout: "out\n", Stderr: "err\n", ExitCode: 7}); out != want {
		t.Errorf("got %+v, want %+v", out, want)
	}
	if got := s.Must(t, "sh", "-c", "id -u; pwd; echo $XDG_RUNTIME_DIR"); got != "1000\n/home/user\n/run/user/1000" {
		t.Errorf("got %q", got)
	}

	// The end of the context ends the command in the machine, not only its entrance on the host.
	ctx, cancel := context.WithCancel(t.Context())
	cmd := s.Command(ctx, "sh", "-c", "echo $$; exec sleep 1000")
	stdout := must(cmd.StdoutPipe())(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(must(bufio.NewReader(stdout).ReadString('\n'))(t))
	s.Must(t, "test", "-d", "/proc/"+pid)
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the command ended by itself")
	}
	s.WaitFor(t, time.Minute, "the command is gone", func() (bool, error) {
		out, err := s.Run(t.Context(), "test", "-d", "/proc/"+pid)
		return out.ExitCode == 1, ignoreExit(err)
	})
}

func TestInstall(t *testing.T) {
	m := lab.New(t, lab.Options{})
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "usr/lib/thing"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/lib/thing/program"), []byte("#!/bin/sh\necho it runs\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../lib/thing/program", filepath.Join(dir, "usr/thing")); err != nil {
		t.Fatal(err)
	}
	modes := m.Root().Must(t, "stat", "--format=%n %a %U", "/", "/usr", "/usr/lib")
	if err := m.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if got := m.Root().Must(t, "/usr/lib/thing/program"); got != "it runs" {
		t.Errorf("got %q", got)
	}
	if got := m.Root().Must(t, "stat", "--format=%n %a %U", "/", "/usr", "/usr/lib"); got != modes {
		t.Errorf("directories changed:\n%s\nwere\n%s", got, modes)
	}
}

// must turns (value, error) into a value, or ends the test.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func ignoreExit(err error) error {
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return nil
	}
	return err
}

func bootID(t *testing.T, m *lab.Machine) string {
	t.Helper()
	return m.Root().Must(t, "cat", "/proc/sys/kernel/random/boot_id")
}

// remove removes a container, whose port the next one is to have.
func remove(t *testing.T, s *lab.Session, m *lab.Machine, container string) {
	t.Helper()
	s.Must(t, "podman", "rm", "--force", "--time=0", container)
	free(t, s, m)
}

// free waits until nobody has the port of the containers: conmon and pasta may outlive theirs for a moment.
func free(t *testing.T, s *lab.Session, m *lab.Machine) {
	t.Helper()
	s.WaitFor(t, time.Minute, "the port is free", func() (bool, error) {
		err := m.Network(func() error {
			l, err := net.Listen("tcp", "127.0.0.1:8080")
			if err == nil {
				err = l.Close()
			}
			return err
		})
		if errors.Is(err, syscall.EADDRINUSE) {
			return false, nil
		}
		return err == nil, err
	})
}

// eventually asks for a page until it comes, as a container without a readiness check needs.
func eventually(t *testing.T, s *lab.Session, m *lab.Machine, url string, units ...string) string {
	t.Helper()
	var page string
	s.WaitFor(t, time.Minute, url+" answers", func() (bool, error) {
		r, err := m.HTTP().Get(url)
		if err != nil {
			return false, nil
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		page = strings.TrimSpace(string(body))
		return err == nil && r.StatusCode == 200, nil
	}, units...)
	return page
}
