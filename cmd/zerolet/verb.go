package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/internal/release"
	"github.com/zerolet/zerolet/quadlet"
)

// The manual is also what --help prints.
//
//go:embed zerolet.1.md
var manual string

// options are what a command line says.
type options struct {
	manager quadlet.Manager
	names   []string

	json   bool
	watch  bool
	dryRun bool
	now    bool
	force  bool
	strict bool
	write  bool
	since  string
	group  string
	rootfs bool
	svg    string

	timeout string
}

// verb is one of the commands.
type verb struct {
	name  string
	flags func(*flag.FlagSet, *options)
	names arity
	run   func(*call, context.Context) (int, error)
	unit  bool // nobody but units of ours has a use for it
}

// arity is how many names a verb takes.
type arity int

const (
	anyNames arity = iota
	someName       // at least one
	noNames
	oneDir // or none
)

func verbs() []verb {
	return []verb{
		{name: "check", flags: jsonFlag, run: (*call).check},
		{name: "render", run: (*call).render},
		{name: "apply", names: noNames, run: (*call).apply, flags: func(f *flag.FlagSet, o *options) {
			f.BoolVar(&o.dryRun, "dry-run", false, "only print what would be done")
			f.BoolVar(&o.now, "now", false, "also change what is busy")
			f.BoolVar(&o.force, "force", false, "reload although a file has an error")
		}},
		{name: "status", run: (*call).status, flags: func(f *flag.FlagSet, o *options) {
			jsonFlag(f, o)
			f.BoolVar(&o.watch, "watch", false, "print it again every second")
		}},
		{name: "history", run: (*call).history, flags: func(f *flag.FlagSet, o *options) {
			jsonFlag(f, o)
			f.StringVar(&o.since, "since", "1d", "how far back")
			f.StringVar(&o.svg, "svg", "", "draw it into a file, too")
		}},
		{name: "metrics", run: (*call).metrics},
		{name: "wake", names: someName, flags: jsonFlag, run: (*call).wakeUp},
		{name: "sleep", names: someName, run: (*call).sleep, flags: func(f *flag.FlagSet, o *options) {
			jsonFlag(f, o)
			f.BoolVar(&o.force, "force", false, "also while connections are open")
		}},
		{name: "update", run: (*call).update, flags: func(f *flag.FlagSet, o *options) {
			jsonFlag(f, o)
			f.BoolVar(&o.dryRun, "dry-run", false, "only tell what is newer")
			f.StringVar(&o.timeout, "timeout", "1min", "how long a registry may take to answer")
		}},
		{name: "explain", run: (*call).explain},
		{name: "doctor", names: noNames, flags: jsonFlag, run: (*call).doctor},
		{name: "suggest", names: oneDir, run: (*call).suggest, flags: func(f *flag.FlagSet, o *options) {
			jsonFlag(f, o)
			f.BoolVar(&o.write, "write", false, "write the drop-ins")
		}},
		{name: "turn", unit: true, names: someName, run: (*call).turn, flags: func(f *flag.FlagSet, o *options) {
			f.StringVar(&o.group, "group", "", "what only one of them has")
		}},
		{name: "place", unit: true, names: someName, run: (*call).place},
		{name: "health", unit: true, names: someName, run: (*call).health},
		{name: "keep", unit: true, names: someName, run: (*call).keep, flags: func(f *flag.FlagSet, o *options) {
			f.BoolVar(&o.rootfs, "rootfs", false, "the image is a directory")
		}},
		{name: "export", names: someName, run: (*call).export, flags: func(f *flag.FlagSet, o *options) {
			f.BoolVar(&o.strict, "strict", false, "leave out files with a warning, too")
		}},
	}
}

func jsonFlag(f *flag.FlagSet, o *options) { f.BoolVar(&o.json, "json", false, "print JSON") }

// parse reads the command line. Options may stand before and after names.
func (c *call) parse(args []string) (verb, error) {
	if len(args) == 0 {
		return verb{}, usage("no command")
	}
	all := verbs()
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == args[0] })
	switch {
	case args[0] == "help" && len(args) > 1:
		return c.parse([]string{args[1], "--help"})
	case args[0] == "help", args[0] == "--help", args[0] == "-h":
		return verb{}, c.help("")
	case args[0] == "--version":
		return verb{}, c.version(args[1:])
	case i < 0:
		return verb{}, usage("unknown command %q", args[0])
	}
	v := all[i]
	flags, manager := v.flagSet(&c.options, c.uid)
	for args = args[1:]; len(args) > 0; {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return verb{}, c.help(v.name)
		} else if err != nil {
			return verb{}, failure{exitUsage, err.Error(), "zerolet " + v.name + " --help"}
		}
		rest := flags.Args()
		if read := args[:len(args)-len(rest)]; len(rest) > 0 && (len(read) == 0 || read[len(read)-1] != "--") {
			c.names, args = append(c.names, rest[0]), rest[1:]
			continue
		}
		c.names = append(c.names, rest...)
		break
	}
	c.manager = manager()
	switch {
	case v.names == noNames && len(c.names) > 0:
		return v, usage("%s takes no name", v.name)
	case v.names == oneDir && len(c.names) > 1:
		return v, usage("%s takes one directory", v.name)
	case v.names == someName && len(c.names) == 0:
		return v, failure{exitUsage, v.name + " needs a name", "zerolet status lists them"}
	}
	return v, nil
}

func usage(format string, args ...any) error {
	return failure{exitUsage, fmt.Sprintf(format, args...), "zerolet --help"}
}

// flagSet is the verb's flags. The manager is known once they are parsed.
func (v verb) flagSet(o *options, uid int) (*flag.FlagSet, func() quadlet.Manager) {
	flags := flag.NewFlagSet(v.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	system := flags.Bool("system", uid == 0, "the system's manager (root's default)")
	user := flags.Bool("user", false, "the user's manager (everybody else's default)")
	if v.flags != nil {
		v.flags(flags, o)
	}
	return flags, func() quadlet.Manager {
		if *user || !*system {
			return quadlet.User
		}
		return quadlet.System
	}
}

// help prints what the manual says of a verb, or its beginning.
func (c *call) help(name string) error {
	text, err := section(name)
	if err == nil {
		err = c.printf("%s", text)
	}
	if err == nil {
		err = flag.ErrHelp
	}
	return err
}

// version prints which zerolet this is.
func (c *call) version(args []string) error {
	if len(args) > 0 {
		return usage("--version stands alone")
	}
	if err := c.printf("zerolet %s\n", release.Version()); err != nil {
		return err
	}
	return flag.ErrHelp
}

// section is a part of the manual as plain text: that of a verb, or what every
// use of the command has in common.
func section(name string) (string, error) {
	start, end := "## SYNOPSIS\n", "## DESCRIPTION\n"
	if name != "" {
		start, end = "### zerolet "+name+"\n", "\n##"
	}
	_, text, found := strings.Cut(manual, start)
	if !found {
		return "", fmt.Errorf("the manual has nothing about %s", name)
	}
	text, _, _ = strings.Cut(text, end)
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		line = strings.NewReplacer("*", "", "`", "", `\`, "").Replace(line)
		line = strings.Replace(line, ":   ", "    ", 1)
		b.WriteString(strings.TrimPrefix(line, "    $ "))
	}
	return b.String(), nil
}
