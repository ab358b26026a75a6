// Package systemd asks a service manager and the journal, and tells the manager
// what to do, with the programs that a person would use: systemctl and
// journalctl. It does not know zerolet's units and remembers nothing.
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
	"time"
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

// errNothing is a program that failed and had nothing to say: that is how
// systemctl's lists and journalctl tell of no match.
var errNothing = errors.New("nothing was found")

// run is what a program printed. Its own words are the error.
func run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
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
	return stdout.String(), fmt.Errorf("%s: %w: %w", args[0], errNothing, err)
}

// list is run where nothing is an answer, too.
func list(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, args...)
	if errors.Is(err, errNothing) {
		err = nil
	}
	return out, err
}

// Unit is what systemd tells of a unit: its properties by their names. Where a
// property has several values they are lines.
type Unit map[string]string

// Units are the units of the names, in that order, loaded or not.
func (m Manager) Units(ctx context.Context, names ...string) ([]Unit, error) {
	if len(names) == 0 {
		return nil, nil
	}
	const properties = "Id,LoadState,ActiveState,SubState,Result,FragmentPath,SourcePath,Description,Documentation,Listen,StatusText," +
		"UnitFileState,MainPID,ActiveEnterTimestamp,ActiveExitTimestamp,InactiveExitTimestamp,InactiveEnterTimestamp," +
		"RequiredBy,RequisiteOf,WantedBy,BoundBy,UpheldBy,Requires,BindsTo,IPAddressAllow,ExecStart,NRestarts"
	out, err := m.Control(ctx, append([]string{"show", "--timestamp=us+utc", "--property=" + properties, "--"}, names...)...)
	if err != nil {
		return nil, err
	}
	var units []Unit
	for block := range strings.SplitSeq(strings.TrimSpace(out), "\n\n") {
		units = append(units, parseUnit(block))
	}
	if len(units) != len(names) {
		return nil, fmt.Errorf("systemctl told of %d units when asked for %d", len(units), len(names))
	}
	return units, nil
}

func parseUnit(block string) Unit {
	u := make(Unit)
	for line := range strings.Lines(block) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if before, twice := u[key]; twice {
			value = before + "\n" + value
		}
		u[key] = value
	}
	return u
}

// Files are the names of the unit files that are in a state, such as
// "generated" (systemctl(1), list-unit-files).
func (m Manager) Files(ctx context.Context, state string) ([]string, error) {
	out, err := list(ctx, "systemctl", m.scope(), "list-unit-files", "--full", "--plain", "--no-legend", "--state="+state)
	return firstWords(out), err
}

// Loaded are the names of the units in memory that match a pattern.
func (m Manager) Loaded(ctx context.Context, patterns ...string) ([]string, error) {
	out, err := list(ctx, append([]string{"systemctl", m.scope(), "list-units", "--all", "--full", "--plain", "--no-legend"}, patterns...)...)
	return firstWords(out), err
}

func firstWords(text string) []string {
	var words []string
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 {
			words = append(words, fields[0])
		}
	}
	return words
}

// Is tells whether the unit is in one of the states (ActiveState).
func (u Unit) Is(states ...string) bool {
	for _, s := range states {
		if u["ActiveState"] == s {
			return true
		}
	}
	return false
}

// Found tells whether there is a unit file.
func (u Unit) Found() bool { return u["LoadState"] != "" && u["LoadState"] != "not-found" }

// Time is a time stamp, zero if it has never been.
func (u Unit) Time(property string) time.Time {
	t, err := time.Parse("Mon 2006-01-02 15:04:05.999999 UTC", u[property])
	if err != nil {
		return time.Time{}
	}
	return t
}

// Needs are the units that keep this one up where it has StopWhenUnneeded=yes
// (systemd.unit(5)).
func (u Unit) Needs() []string {
	var names []string
	for _, by := range []string{"RequiredBy", "RequisiteOf", "WantedBy", "BoundBy", "UpheldBy"} {
		names = append(names, strings.Fields(u[by])...)
	}
	return names
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
