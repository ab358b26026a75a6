// Command demo shows zerolet's main job on a real container, as a story that
// fails where a step is not so: nginx in a rootless container, from zero to
// one and back, twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, "..", os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "demo: error: %v\n", err)
		os.Exit(1)
	}
}

// run tells the story of the repository in a directory.
func run(ctx context.Context, repository string, out, log io.Writer) (err error) {
	fmt.Fprintln(out, "Setting up: a throw-away machine with systemd, Podman and zerolet ...")
	m, err := machine(ctx, repository, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := m.User().NginxImage(ctx); err != nil {
		return err
	}
	s := story{ctx: ctx, out: out, session: m.User()}
	s.tell()
	return s.err
}

// machine boots a lab with zerolet installed.
func machine(ctx context.Context, repository string, log io.Writer) (*lab.Machine, error) {
	dir, err := os.MkdirTemp("", "zerolet-demo-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if text, err := exec.CommandContext(ctx, "make", "-C", repository, "install", "DESTDIR="+dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make install: %w\n%s", err, text)
	}
	m, err := lab.Start(ctx, lab.Options{Log: log})
	if err != nil {
		return nil, err
	}
	if err := m.Install(ctx, dir); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// story runs commands as the rootless user until one is not as told.
type story struct {
	ctx     context.Context
	out     io.Writer
	session *lab.Session
	err     error
}

func (s *story) tell() {
	s.say("You have a container in a Quadlet file. Two lines more, and it runs only while it is used.")
	s.shell(`mkdir -p ~/.config/containers/systemd
cat > ~/.config/containers/systemd/web.container <<'EOF'
[Container]
Image=localhost/nginx
PublishPort=8080:80

[ScaleToZero]
IdleTimeout=5s
EOF`)
	s.shell("systemctl --user daemon-reload")
	s.wait("systemctl --user is-active web-proxy.socket", "active")

	s.say("systemd listens on the port. Nothing else runs.")
	s.expect("systemctl --user list-sockets --no-legend web-proxy.socket", "[::]:8080")
	s.expect("systemctl --user is-active web-proxy.service web.service || true", "inactive\ninactive")
	s.empty("podman ps --quiet")

	s.say("The first request starts the container, and is held until nginx answers.")
	s.expect("curl -sS -o page -w 'HTTP %{http_code} after %{time_total} s\\n' http://localhost:8080/ && grep -o '<title>.*</title>' page", "HTTP 200", "<title>")
	s.expect("podman ps --format '{{.Names}} {{.Image}} {{.Status}}'", "systemd-web localhost/nginx")
	s.expect("curl -sS -o page -w 'HTTP %{http_code} after %{time_total} s\\n' http://localhost:8080/", "HTTP 200")

	s.say("Five seconds after the last connection everything is gone again, but for the socket.")
	s.wait("systemctl --user is-active web.service", "inactive")
	s.empty("podman ps --all --quiet")
	s.expect("systemctl --user is-active web-proxy.socket", "active")
	s.expect("systemctl --user list-units --failed --no-legend | wc -l", "0")

	s.say("And the next request wakes it again.")
	s.expect("curl -sS -o page -w 'HTTP %{http_code} after %{time_total} s\\n' http://localhost:8080/", "HTTP 200")
	s.expect("podman ps --format '{{.Names}} {{.Image}} {{.Status}}'", "systemd-web localhost/nginx")
	s.say("That is all. docs/internals/how-it-works.md says how.")
}

func (s *story) say(text string) {
	if s.err == nil {
		fmt.Fprintf(s.out, "\n# %s\n", text)
	}
}

// shell runs a command as it is shown.
func (s *story) shell(command string) string {
	if s.err != nil {
		return ""
	}
	fmt.Fprintf(s.out, "$ %s\n", command)
	text, err := s.output(command)
	if err != nil {
		s.err = err
	}
	if text != "" {
		fmt.Fprintln(s.out, text)
	}
	return text
}

func (s *story) output(command string) (string, error) {
	o, err := s.session.Run(s.ctx, "sh", "-c", command)
	return strings.TrimSpace(o.Stdout), err
}

func (s *story) expect(command string, parts ...string) {
	text := s.shell(command)
	for _, part := range parts {
		if s.err == nil && !strings.Contains(text, part) {
			s.err = fmt.Errorf("%s: %q is not in it", command, part)
		}
	}
}

func (s *story) empty(command string) {
	if text := s.shell(command); s.err == nil && text != "" {
		s.err = fmt.Errorf("%s: not empty", command)
	}
}

// wait shows a command once it says what it should, within a minute.
func (s *story) wait(command, want string) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	for s.err == nil {
		// "is-active" exits with 3 while a unit is not active.
		o, err := s.session.Run(ctx, "sh", "-c", command)
		if strings.TrimSpace(o.Stdout) == want {
			fmt.Fprintf(s.out, "$ %s\n%s\n", command, want)
			return
		}
		if ctx.Err() != nil {
			s.err = fmt.Errorf("%s: never %q: %w", command, want, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
