// Package systemd asks a service manager over its bus and the journal by
// journalctl, and tells the manager what to do by systemctl. It does not know
// zerolet's units and remembers nothing.
package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// Manager is the system's service manager or that of the user who asks.
type Manager struct {
	User bool
	UID  int // of the user
}

func (m Manager) scope() string {
	if m.User {
		return "--user"
	}
	return "--system"
}

// Control runs systemctl with arguments. The error is what it said.
func (m Manager) Control(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append([]string{"systemctl", m.scope(), "--no-ask-password"}, args...)...)
}

// command is a program whose words are the same everywhere.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	return cmd
}

// run is what a program printed. Its own words are the error.
func run(ctx context.Context, args ...string) (string, error) {
	cmd := command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch text := strings.TrimSpace(stderr.String()); {
	case err == nil:
		return stdout.String(), nil
	case ctx.Err() != nil:
		return stdout.String(), ctx.Err()
	case text != "":
		return stdout.String(), errors.New(text)
	}
	return stdout.String(), fmt.Errorf("%s: %w", args[0], err)
}

// Version is the number of systemd's version.
func (m Manager) Version(ctx context.Context) (int, error) {
	out, err := m.Control(ctx, "--version")
	if err != nil {
		return 0, err
	}
	return version(out)
}

// version reads "systemd 257 (257.9-1~deb13u1)". The number may have more
// after it: a point release's or, before a release, "~rc2" or "-devel"
// (meson.version of systemd's sources).
func version(text string) (int, error) {
	match := regexp.MustCompile(`^systemd (\d+)`).FindStringSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("systemctl --version: %q", text)
	}
	return strconv.Atoi(match[1])
}
