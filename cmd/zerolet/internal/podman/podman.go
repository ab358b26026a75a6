// Package podman has Podman do what sleeping containers need: keep what they use, get
// newer images, and check whether they are healthy. It asks the command, as a person does.
package podman

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// run is podman's output, or its last words as the error.
func run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := command(ctx, "podman", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("podman %s took too long", args[0])
	case err == nil:
		return stdout.Bytes(), nil
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if last := strings.TrimPrefix(lines[len(lines)-1], "Error: "); last != "" {
		return nil, errors.New(last)
	}
	return nil, err
}

func command(ctx context.Context, podman string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, podman, args...)
	// In a unit Podman would give what it makes the label of the unit's container.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PODMAN_SYSTEMD_UNIT=") })
	// Podman ends what it has begun to write, and is killed a second later. A helper
	// of it may have the pipe for longer.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	return cmd
}

// Passes reports whether a command of Podman's succeeds. What it says is lost.
func Passes(ctx context.Context, words []string) bool {
	return command(ctx, words[0], words[1:]...).Run() == nil
}
