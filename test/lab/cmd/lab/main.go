// Command lab starts one machine of package lab for a person: without arguments it says how to enter it and
// keeps it until it is interrupted; with a command it runs that in the machine and ends with its status.
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
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

const usage = `usage: lab [FLAG...] [COMMAND [ARGUMENT...]]

Boots a throw-away machine with systemd and Podman and runs COMMAND in it. Without COMMAND it says how to
enter the machine and keeps it until it is interrupted. Needs root.

`

type options struct {
	suite   string
	destdir string
	images  []string
	as      string
	command []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns the exit status: that of the command, 1 if the machine failed, 2 for a wrong use.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	o, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	m, err := lab.Start(ctx, lab.Options{Suite: o.suite, Log: errs})
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	err = use(ctx, m, o, in, out, errs)
	exit := new(exec.ExitError)
	exited := errors.As(err, &exit) && exit.Exited()
	if exited {
		err = nil
	}
	if err := errors.Join(err, m.Close()); err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	if exited {
		return exit.ExitCode()
	}
	return 0
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("lab", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() {
		fmt.Fprint(errs, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.suite, "suite", lab.DefaultSuite, "Debian `suite`: "+strings.Join(lab.Suites(), ", "))
	flags.StringVar(&o.destdir, "install", "", "copy this `directory`, the DESTDIR of an installation, over the machine's root")
	flags.StringVar(&o.as, "as", "user", "`who` runs COMMAND: user or root")
	images := flags.String("images", "", "comma-separated `list` of images to make for both users: app, nginx")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.command = flags.Args()
	o.images = strings.FieldsFunc(*images, func(r rune) bool { return r == ',' })
	unknown := func(image string) bool { return image != "app" && image != "nginx" }
	if (o.as != "user" && o.as != "root") || slices.ContainsFunc(o.images, unknown) {
		flags.Usage()
		return o, errors.New("unknown user or image")
	}
	return o, nil
}

// use prepares the machine and runs the command in it, or keeps it until ctx ends.
func use(ctx context.Context, m *lab.Machine, o options, in io.Reader, out, errs io.Writer) error {
	if err := prepare(ctx, m, o); err != nil {
		return err
	}
	if len(o.command) == 0 {
		fmt.Fprintf(out, `A machine with Debian %s is up. As root on this host:
  as its root:           nsenter --target %[2]d --all su --login
  as its rootless user:  nsenter --target %[2]d --all su --login user
Ctrl-C here (or kill %[3]d) ends and deletes it.
`, m.Suite, m.Leader(), os.Getpid())
		<-ctx.Done()
		return nil
	}
	session := m.User()
	if o.as == "root" {
		session = m.Root()
	}
	// Not session.Command: a command that uses the terminal must stay in its foreground process group.
	enter := append(session.Enter(), "TERM="+os.Getenv("TERM"))
	cmd := exec.CommandContext(ctx, enter[0], append(enter[1:], o.command...)...)
	cmd.WaitDelay = time.Second
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, errs
	return cmd.Run()
}

// prepare installs and makes images, then reloads both managers so that they see what was installed.
func prepare(ctx context.Context, m *lab.Machine, o options) error {
	if o.destdir != "" {
		if err := m.Install(ctx, o.destdir); err != nil {
			return err
		}
	}
	for _, s := range m.Sessions() {
		for _, image := range o.images {
			build := s.AppImage
			if image == "nginx" {
				build = s.NginxImage
			}
			if _, err := build(ctx); err != nil {
				return err
			}
		}
		if _, err := s.Systemctl(ctx, "daemon-reload"); err != nil {
			return err
		}
	}
	return nil
}
