package lab

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const userID = 1000

// Session runs commands in a machine: as root beside the system manager, or as the rootless user beside
// their own manager. It stays valid over a reboot.
type Session struct {
	// Name is the user's name: "root" or "user".
	Name string
	// UserManager says that systemd's user manager and rootless Podman are meant.
	UserManager bool
	// Home is the user's home directory.
	Home string
	// RuntimeDir is what units call %t: /run or /run/user/1000.
	RuntimeDir string
	// QuadletDir is where this user keeps .container files.
	QuadletDir string
	// UnitDir is where this user keeps units of their own.
	UnitDir string
	// GeneratorDir is the generators' normal directory; with ".early" and ".late" appended the other two.
	GeneratorDir string

	machine *Machine
	uid     int
}

// Root is the session of root.
func (m *Machine) Root() *Session {
	return &Session{
		Name: "root", Home: "/root", RuntimeDir: "/run",
		QuadletDir: "/etc/containers/systemd", UnitDir: "/etc/systemd/system",
		GeneratorDir: "/run/systemd/generator",
		machine:      m,
	}
}

// User is the session of the rootless user, uid and gid 1000, who lingers.
func (m *Machine) User() *Session {
	home, runtimeDir := "/home/user", fmt.Sprintf("/run/user/%d", userID)
	return &Session{
		Name: "user", UserManager: true, Home: home, RuntimeDir: runtimeDir,
		QuadletDir: home + "/.config/containers/systemd", UnitDir: home + "/.config/systemd/user",
		GeneratorDir: runtimeDir + "/systemd/generator",
		machine:      m, uid: userID,
	}
}

// Sessions are root's and the rootless user's.
func (m *Machine) Sessions() []*Session { return []*Session{m.Root(), m.User()} }

// Enter is the command line that, as root on the host, enters the session: append what is to run.
// It holds for this boot of the machine.
func (s *Session) Enter() []string {
	args := []string{
		"nsenter", "--target", strconv.Itoa(s.machine.Leader()), "--all",
		"--setuid", strconv.Itoa(s.uid), "--setgid", strconv.Itoa(s.uid),
		"env", "--ignore-environment", "--chdir=" + s.Home,
		"HOME=" + s.Home, "USER=" + s.Name, "LOGNAME=" + s.Name, "LANG=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
	}
	if s.UserManager {
		args = append(args, "XDG_RUNTIME_DIR="+s.RuntimeDir, "DBUS_SESSION_BUS_ADDRESS=unix:path="+s.RuntimeDir+"/bus")
	}
	return args
}

// Command prepares a command in the session, for callers that want its streams. When ctx ends, the command
// is killed with all of its process group.
func (s *Session) Command(ctx context.Context, args ...string) *exec.Cmd {
	enter := append(s.Enter(), args...)
	cmd := exec.CommandContext(ctx, enter[0], enter[1:]...)
	// nsenter forks to enter the pid namespace; killed alone it would leave its child behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// From the end of the command until all that it printed has been read, which on a busy machine takes more than a moment.
	cmd.WaitDelay = time.Minute
	return cmd
}

// Output is what a command said.
type Output struct {
	Stdout, Stderr string
	// ExitCode is its exit status, -1 if it did not exit by itself.
	ExitCode int
}

// Run runs a command in the session and waits for its end. An exit status other than 0 is an error that
// wraps *exec.ExitError and shows standard error; Output is filled all the same.
func (s *Session) Run(ctx context.Context, args ...string) (Output, error) {
	return s.runWith(ctx, nil, args...)
}

func (s *Session) runWith(ctx context.Context, stdin []byte, args ...string) (Output, error) {
	if s.machine.Leader() == 0 {
		return Output{ExitCode: -1}, fmt.Errorf("lab: %s: the machine is off", strings.Join(args, " "))
	}
	cmd := s.Command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	err := cmd.Run()
	out := Output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", s.Name, strings.Join(args, " "), err, strings.TrimSpace(out.Stderr))
	}
	return out, err
}

// Systemctl runs systemctl on the session's manager.
func (s *Session) Systemctl(ctx context.Context, args ...string) (Output, error) {
	return s.Run(ctx, append([]string{"systemctl", s.scope()}, args...)...)
}

func (s *Session) scope() string {
	if s.UserManager {
		return "--user"
	}
	return "--system"
}

// Show returns one property of a unit as systemctl prints it.
func (s *Session) Show(ctx context.Context, unit, property string) (string, error) {
	if value, known := s.ask(ctx, unit, property); known {
		return value, nil
	}
	out, err := s.Systemctl(ctx, "show", "--property", property, "--value", unit)
	return strings.TrimSuffix(out.Stdout, "\n"), err
}

// Journal returns what the journal has about a unit, of all boots, with microseconds. Without a unit it is
// the whole journal that the user may read.
func (s *Session) Journal(ctx context.Context, unit string) (string, error) {
	args := []string{"journalctl", "--no-pager", "--output=short-precise"}
	if unit != "" {
		args = append(args, s.scope(), "--unit="+unit)
	}
	out, err := s.Run(ctx, args...)
	return out.Stdout, err
}

// Put writes a file with mode 0644, owned by the session's user, and makes its directories. A relative
// path lies in QuadletDir. The file appears whole: it is renamed into place.
func (s *Session) Put(ctx context.Context, name, content string) error {
	if !path.IsAbs(name) {
		name = path.Join(s.QuadletDir, name)
	}
	const write = `mkdir -p "${1%/*}/" && cat >"$1.tmp" && mv "$1.tmp" "$1"`
	_, err := s.runWith(ctx, []byte(content), "sh", "-c", write, "sh", name)
	return err
}

// Host names a file of the machine on the host, for reading with the host's own programs. Absolute symbolic
// links on the way lead out of the machine.
func (m *Machine) Host(name string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.Leader(), name)
}
