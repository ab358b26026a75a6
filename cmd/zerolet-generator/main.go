// Command zerolet-generator is a systemd generator (systemd.generator(7)): it
// makes the units of every .container file that has a [ScaleToZero] section.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/internal/release"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
	"github.com/zerolet/zerolet/quadlet/scale"
)

func main() {
	// It ends in a moment: memory is collected only if there is much of it.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(48 << 20)
	os.Exit(run(os.Args, os.Getenv, os.Stdout, os.Stderr))
}

// run is 0 when every scaled file got its units and 1 otherwise. systemd does
// not look at it.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if slices.Equal(args[1:], []string{"--version"}) {
		fmt.Fprintln(stdout, "zerolet-generator", release.Version())
		return 0
	}
	if len(args) != 4 {
		fmt.Fprintf(stderr, "usage: %[1]s NORMAL-DIR EARLY-DIR LATE-DIR\n       %[1]s --version\n", args[0])
		return 2
	}
	manager := quadlet.System
	if strings.Contains(filepath.Base(args[0]), "user") { // as podman's generator tells
		manager = quadlet.User
	}
	log := newLog(manager, stderr)
	g := generator.Generator{
		Search:  quadlet.Search{Manager: manager, Getenv: getenv, UID: os.Getuid(), UnprivilegedPort: scale.UnprivilegedPort(), LegacyCgroups: scale.IsLegacy()},
		Quadlet: convert.FindQuadlet(),
		// A generator of the system manager sees the file system read-only but
		// for its output (and, since systemd 254, a private /tmp).
		TempDir:    args[1],
		Processors: runtime.NumCPU(),
		AdminUnit:  generator.AdminUnit(manager, getenv),
	}
	plan := g.Plan(context.Background())
	var err error
	if len(plan.Endpoints) > 0 { // else every daemon-reload would pay for what nobody needs
		libexec := libexecDir()
		layout := generator.Layout{
			Proxy:   filepath.Join(libexec, "zerolet-proxy"),
			StandIn: filepath.Join(libexec, "standin"),
			Zerolet: filepath.Join(libexec, "../../bin/zerolet"),
		}
		units := plan.Units(layout)
		units = append(units, plan.Removal(layout, units)...)
		err = generator.Output{Normal: args[1], Early: args[2]}.Write(units)
	}
	ds := plan.All()
	for _, d := range ds {
		log.diagnostic(d)
	}
	if err != nil {
		log.print(quadlet.Error, err.Error())
	}
	if err != nil || ds.HasErrors() {
		return 1
	}
	return 0
}

// libexecDir is where this program is installed, behind the links in the
// generator directories.
func libexecDir() string {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "/usr/libexec/zerolet"
	}
	return filepath.Dir(self)
}
