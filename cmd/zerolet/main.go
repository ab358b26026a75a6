// Command zerolet is for the person who writes .container files: it tells what
// the generator would say and do, how the services stand, and brings what runs
// in line with what is declared.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/zerolet/zerolet/quadlet/convert"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Exit statuses, as the manual says.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitFailure = 3
)

func main() {
	// It ends in a moment. With 1,000 services 15 % of its time were the collector's
	// (pprof), which begins at 4 MiB.
	debug.SetGCPercent(400)
	m := machine{
		getenv: os.Getenv, uid: os.Getuid(), unprivileged: scale.UnprivilegedPort(), legacyCgroups: scale.IsLegacy(), processors: runtime.NumCPU(),
		quadlet: convert.FindQuadlet(), prefix: prefixDir(), clock: time.Now,
		color: canMove(os.Stderr) && os.Getenv("NO_COLOR") == "",
		live:  canMove(os.Stdout), progress: canMove(os.Stderr),
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], m, output(os.Stdout), output(os.Stderr))
	stop()
	awaitJournal(os.Stderr, 10*time.Second)
	os.Exit(status)
}

// machine is what the commands ask of the machine they run on.
type machine struct {
	getenv        func(string) string
	uid           int
	unprivileged  int // see [quadlet.Search]
	legacyCgroups bool
	processors    int    // 0 where that is not known
	quadlet       string // path of its own Quadlet, or ""
	prefix        string // PREFIX of the installation
	clock         func() time.Time
	color         bool // standard error is a terminal that wants it
	live          bool // standard output is a terminal
	progress      bool // standard error is one
}

// prefixDir is PREFIX of the installation that this program belongs to.
func prefixDir() string {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil || filepath.Base(filepath.Dir(self)) != "bin" {
		return "/usr"
	}
	return filepath.Dir(filepath.Dir(self))
}

// failure is an error with the exit status and the hint that go with it.
type failure struct {
	status  int
	message string
	hint    string
}

func (f failure) Error() string { return f.message }

// call is one use of the command.
type call struct {
	machine
	options
	stdout io.Writer
	stderr printer
	deeds  []deed // so far, with --json
}

func run(ctx context.Context, args []string, m machine, stdout, stderr io.Writer) int {
	c := &call{machine: m, stdout: stdout, stderr: printer{stderr, m.color}}
	status, err := c.do(ctx, args)
	var f failure
	switch {
	case err == nil:
		return status
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case !errors.As(err, &f):
		f = failure{status: exitFailure, message: err.Error()}
	}
	c.stderr.failure(f)
	return f.status
}

func (c *call) do(ctx context.Context, args []string) (int, error) {
	if len(args) > 1 && args[0] == "__complete" {
		return exitOK, c.complete(ctx, args[1:])
	}
	verb, err := c.parse(args)
	if err != nil {
		return exitUsage, err
	}
	return verb.run(c, ctx)
}

// printf writes to standard output.
func (c *call) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(c.stdout, format, args...)
	return err
}
