package systemd

import (
	"context"
	"os/exec"
	"strings"
)

// Job is a unit that runs systemctl, one command after the other, and is not
// there any more when it has ended.
type Job struct {
	Unit        string
	Description string
	Before      []string   // units that do not start while it runs
	Commands    [][]string // arguments of systemctl
}

// Run has the manager begin it. A command that fails does not keep the next one
// from being run.
func (m Manager) Run(ctx context.Context, j Job) error {
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		return err
	}
	args := []string{
		"systemd-run", m.scope(), "--quiet", "--collect", "--no-block", "--unit=" + j.Unit, "--description=" + j.Description,
		"--property=Type=oneshot",
	}
	for _, name := range j.Before {
		args = append(args, "--property=Before="+name)
	}
	for _, command := range j.Commands {
		line := strings.Join(append([]string{"-" + systemctl, m.scope()}, command...), " ")
		// A unit's name has no other letter that means something there.
		args = append(args, "--property=ExecStartPre="+strings.ReplaceAll(line, `\`, `\\`))
	}
	_, err = run(ctx, append(args, "--", "true")...)
	return err
}
