// Command demo shows zerolet's main job on a real container, as a story that
// fails where a step is not so: nginx in a rootless container, from zero to
// one and back, twice.
package main

import (
	"context"
	"errors"
	"flag"
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
	picture := flag.String("svg", "", "draw what the terminal showed into a file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	entries, err := run(ctx, "..", os.Stdout, os.Stderr)
	if err == nil && *picture != "" {
		err = os.WriteFile(*picture, []byte(draw(title, entries)), 0o644)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: error: %v\n", err)
		os.Exit(1)
	}
}

const title = "A terminal: the first request to a sleeping nginx starts its container"

// run tells the story of the repository in a directory.
func run(ctx context.Context, repository string, out, log io.Writer) (entries []entry, err error) {
	fmt.Fprintln(out, "Setting up: a throw-away machine with systemd, Podman and zerolet ...")
	m, err := machine(ctx, repository, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := m.User().NginxImage(ctx); err != nil {
		return nil, err
	}
	s := story{ctx: ctx, out: out, machine: m, session: m.User()}
	s.tell()
	return s.entries, s.err
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
	machine *lab.Machine
	session *lab.Session
	entries []entry
	err     error
}

// web is the file of the README.
const web = `[Container]
Image=localhost/nginx
PublishPort=8080:80

[ScaleToZero]
IdleTimeout=5s`

const request = `curl -sS -o page -w 'HTTP %{http_code} after %{time_total} s\n' http://localhost:8080/`

func (s *story) tell() {
	const file = "~/.config/containers/systemd/web.container"
	s.quiet("mkdir -p ~/.config/containers/systemd && cat >"+file+" <<'EOF'\n"+web+"\nEOF", "")

	s.say("A container in a Quadlet file, with one section more. We are a rootless user.")
	s.expect("cat "+file, web)
	s.expect("zerolet apply", "+ web: listens on 8080")

	s.say("systemd listens on the port. Nothing else runs.")
	s.empty("podman ps --quiet")
	s.quiet("systemctl --user list-sockets --no-legend web-proxy.socket", "[::]:8080")
	s.quiet("systemctl --user is-active web-proxy.service web.service || true", "inactive\ninactive")

	s.say("The first request starts the container, and waits until nginx answers.")
	s.expect(request, "HTTP 200")
	s.quiet("cat page", "<title>Welcome to nginx!</title>")
	release := s.hold()
	s.expect("podman ps --format '{{.Names}}  {{.Image}}  {{.Status}}'", "systemd-web  localhost/nginx")
	s.expect(request, "HTTP 200")
	release()

	s.say("Five seconds after the last connection the container is gone again. The socket stays.")
	s.wait("zerolet status", "asleep")
	s.empty("podman ps --quiet")
	s.quiet("systemctl --user is-active web-proxy.socket", "active")
	s.quiet("systemctl --user list-units --failed --no-legend | wc -l", "0")

	s.say("And the next request wakes it again.")
	s.expect(request, "HTTP 200")
	s.hold()()
}

// hold has somebody connected until released, and waits for the container: on a slow machine more than the idle time
// passes between two commands.
func (s *story) hold() (release func()) {
	if s.err != nil {
		return func() {}
	}
	conn, err := s.machine.Dial(s.ctx, "tcp", "127.0.0.1:8080")
	if err != nil {
		s.err = err
		return func() {}
	}
	s.until("podman ps --format '{{.Names}}'", "systemd-web")
	return func() { _ = conn.Close() }
}

// show prints what a terminal shows, and keeps it for the picture.
func (s *story) show(k kind, text string, after time.Duration) {
	if k == remark {
		fmt.Fprintln(s.out)
	}
	fmt.Fprintln(s.out, text)
	s.entries = append(s.entries, entry{k, text, after})
}

// The time that somebody takes to read a line, and to type one.
const reads, types = 1200 * time.Millisecond, 700 * time.Millisecond

func (s *story) say(text string) {
	if s.err == nil {
		s.show(remark, "# "+text, reads)
	}
}

// expect shows a command and what it says, which must have a part.
func (s *story) expect(line, part string) {
	if s.err != nil {
		return
	}
	s.show(command, "$ "+line, types)
	start := time.Now()
	text := s.quiet(line, part)
	if text != "" {
		s.show(output, text, time.Since(start))
	}
}

// empty is a command that says nothing.
func (s *story) empty(line string) {
	s.expect(line, "")
	if last := len(s.entries) - 1; s.err == nil && s.entries[last].kind == output {
		s.err = fmt.Errorf("%s: not empty", line)
	}
}

// quiet looks behind the story: what it runs is not shown.
func (s *story) quiet(line, part string) string {
	if s.err != nil {
		return ""
	}
	text, err := s.shell(s.ctx, line)
	if err == nil && !strings.Contains(text, part) {
		err = fmt.Errorf("%s: %q is not in it:\n%s", line, part, text)
	}
	s.err = err
	return text
}

// shell runs a command in the user's home directory.
func (s *story) shell(ctx context.Context, line string) (string, error) {
	o, err := s.session.Run(ctx, "sh", "-c", "cd && "+line)
	return strings.TrimSpace(o.Stdout), err
}

// wait shows a command once what it says has a part.
func (s *story) wait(line, part string) {
	start := time.Now()
	text := s.until(line, part)
	if s.err == nil {
		s.show(command, "$ "+line, time.Since(start))
		s.show(output, text, 0)
	}
}

// until runs a command until what it says has a part, for two minutes at most.
func (s *story) until(line, part string) string {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	for s.err == nil {
		text, err := s.shell(ctx, line)
		if err == nil && strings.Contains(text, part) {
			return text
		}
		if ctx.Err() != nil {
			s.err = fmt.Errorf("%s: never %q: %w", line, part, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	return ""
}
