// Command zerolet is for the person who writes .container files: it tells what
// the generator would say and do.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

const usage = `usage: zerolet COMMAND [--system|--user] [--json] [NAME|FILE...]

commands:
  check     read the scaled .container files and say what is wrong with them
  render    print the units that the generator would write
  export knative [--strict]
            print the files as Knative Services (docs/outgrowing.md)

Without a NAME or FILE: every scaled file of the manager. The manager is the
system's for root and the user's otherwise.

--json: check prints one JSON object, for editors (docs/diagnostics.md)

exit status: 0 all is well (there may be warnings), 1 a file has an error,
2 the command line is wrong, 3 something else failed: a directory cannot be
read, the output cannot be written
`

// Exit statuses, as the usage text says.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitFailure = 3
)

func main() {
	m := machine{
		getenv: os.Getenv, uid: os.Getuid(), quadlet: quadlet.FindQuadlet(), prefix: prefixDir(),
		color: isTerminal(os.Stderr) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
	os.Exit(run(os.Args[1:], m, os.Stdout, os.Stderr))
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) // as isatty(3) does
	return err == nil
}

// machine is what the commands ask of the machine they run on.
type machine struct {
	getenv  func(string) string
	uid     int
	quadlet string // path of its own Quadlet, or ""
	prefix  string // PREFIX of the installation
	color   bool   // standard error is a terminal that wants it
}

func run(args []string, m machine, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "export" {
		return export(args[1:], m, stdout, stderr)
	}
	c, err := parse(args, m.uid)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "zerolet: error: %v\nhint: zerolet --help\n", err)
		return exitUsage
	}
	plan, units, err := c.plan(m)
	if err != nil {
		fmt.Fprintf(stderr, "zerolet: error: %v\n", err)
		return exitUsage
	}
	ds := plan.All()
	if err := c.show(plan, units, ds, stdout, printer{stderr, m.color}); err != nil {
		fmt.Fprintf(stderr, "zerolet: error: %v\n", err)
		return exitFailure
	}
	switch {
	case plan.Search.HasErrors():
		return exitFailure
	case ds.HasErrors():
		return exitError
	}
	return exitOK
}

// show prints what the command found. An error means that it could not be
// written.
func (c command) show(plan *generator.Plan, units []generator.Unit, ds quadlet.Diagnostics, stdout io.Writer, p printer) error {
	if c.json {
		return newReport(plan, ds).write(stdout)
	}
	for _, d := range ds {
		p.print(d)
	}
	if c.verb == "render" {
		return render(stdout, units)
	}
	return check(stdout, plan)
}

// command is a parsed command line.
type command struct {
	verb    string
	manager quadlet.Manager
	names   []string
	json    bool
}

func parse(args []string, uid int) (command, error) {
	var c command
	if len(args) == 0 {
		return c, errors.New("no command")
	}
	c.verb = args[0]
	switch c.verb {
	case "check", "render":
	case "help", "--help", "-h":
		return c, flag.ErrHelp
	default:
		return c, fmt.Errorf("unknown command %q", c.verb)
	}
	flags := flag.NewFlagSet(c.verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	system := flags.Bool("system", uid == 0, "")
	user := flags.Bool("user", false, "")
	if c.verb == "check" {
		flags.BoolVar(&c.json, "json", false, "")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return c, err
	}
	c.names = flags.Args()
	if *user || !*system {
		c.manager = quadlet.User
	}
	return c, nil
}

// plan goes the generator's own way up to the units.
func (c command) plan(m machine) (*generator.Plan, []generator.Unit, error) {
	g := generator.Generator{
		Search:  quadlet.Search{Manager: c.manager, Getenv: m.getenv, UID: m.uid},
		Quadlet: m.quadlet,
	}
	names := slices.Clone(c.names)
	for i, name := range names {
		if !strings.Contains(name, "/") {
			continue
		}
		path, err := filepath.Abs(name)
		if err == nil {
			path, err = realDir(path)
		}
		if err != nil {
			return nil, nil, err
		}
		names[i] = path
		g.Dirs = append(g.Dirs, filepath.Dir(path))
	}
	plan := g.Plan(context.Background())
	if len(names) > 0 {
		if err := plan.Select(names); err != nil {
			return nil, nil, err
		}
	}
	return plan, plan.Units(generator.Layout{
		Proxy:     filepath.Join(m.prefix, "libexec/zerolet/zerolet-proxy"),
		Zerolet:   filepath.Join(m.prefix, "bin/zerolet"),
		AdminUnit: generator.AdminUnit(c.manager, m.getenv),
	}), nil
}

// realDir resolves the links in a file's directory, as the search does.
func realDir(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
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

// check prints a line for each endpoint that would be made.
func check(w io.Writer, plan *generator.Plan) error {
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		stops := fmt.Sprintf("stops %s after the last connection", e.Spec.IdleTimeout)
		if e.Spec.IdleTimeout == quadlet.Infinity {
			stops = "never stops"
		}
		_, err := fmt.Fprintf(w, "%s.service: listens on %s, %s\n", e.Spec.Unit, strings.Join(listens(e), " "), stops)
		if err != nil {
			return err
		}
	}
	return nil
}

// render prints units as "systemctl cat" does, each after the path it gets.
func render(w io.Writer, units []generator.Unit) error {
	var b bytes.Buffer
	for i, u := range units {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s/%s\n", u.Priority, u.Name)
		if u.Link != "" {
			fmt.Fprintf(&b, "# link to %s\n", u.Link)
			continue
		}
		b.Write(u.Text())
	}
	_, err := w.Write(b.Bytes())
	return err
}
