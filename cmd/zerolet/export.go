package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/knative"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// export writes files for another engine. A file with an error, with --strict
// also one with a warning, is left out: the others are written.
func export(args []string, m machine, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] != "knative" {
		fmt.Fprintf(stderr, "zerolet: error: export to what?\nhint: zerolet export knative NAME\n")
		return exitUsage
	}
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	system := flags.Bool("system", m.uid == 0, "")
	user := flags.Bool("user", false, "")
	strict := flags.Bool("strict", false, "")
	switch err := flags.Parse(args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "zerolet: error: %v\nhint: zerolet --help\n", err)
		return exitUsage
	}
	manager := quadlet.System
	if *user || !*system {
		manager = quadlet.User
	}
	plan, unit, err := exportPlan(quadlet.Search{Manager: manager, Getenv: m.getenv, UID: m.uid}, flags.Args())
	if err != nil {
		fmt.Fprintf(stderr, "zerolet: error: %v\n", err)
		return exitUsage
	}
	exports, ds := exported(plan, unit, *strict)
	p := printer{stderr, m.color}
	for _, d := range ds {
		p.print(d)
	}
	if err := knative.Write(stdout, exports); err != nil {
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

// exportPlan is the plan of the named files, not converted: another engine
// does not run podman. With it comes what finds a Quadlet file by its name.
func exportPlan(search quadlet.Search, names []string) (*generator.Plan, func(string) (*quadlet.File, bool), error) {
	names, dirs, err := located(names)
	if err != nil {
		return nil, nil, err
	}
	found, searchErrors := search.Dirs()
	sources, scanErrors := quadlet.Scan(append(dirs, found...))
	var files []*quadlet.File
	read := make(map[*quadlet.File]quadlet.Diagnostics)
	for _, path := range sources.Units(".container") {
		f, ds := sources.Load(path)
		files, read[f] = append(files, f), ds
	}
	plan := generator.NewPlan(search, files)
	plan.Search = append(searchErrors, scanErrors...)
	for _, e := range plan.Endpoints {
		e.Diagnostics = append(read[e.Spec.File], e.Diagnostics...)
	}
	if len(names) > 0 {
		err = plan.Select(names)
	}
	return plan, func(name string) (*quadlet.File, bool) {
		for _, path := range sources.Units() {
			if filepath.Base(path) == name {
				f, _ := sources.Load(path)
				return f, true
			}
		}
		return nil, false
	}, err
}

// located gives the files among the names their real paths, and the
// directories that they are in.
func located(names []string) (paths, dirs []string, err error) {
	paths = slices.Clone(names)
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
		paths[i] = path
		dirs = append(dirs, filepath.Dir(path))
	}
	return paths, dirs, nil
}

// exported are the exports that can be written, and what is told of all.
func exported(plan *generator.Plan, unit func(string) (*quadlet.File, bool), strict bool) ([]knative.Export, quadlet.Diagnostics) {
	var exports []knative.Export
	all := append(plan.Search[:len(plan.Search):len(plan.Search)], plan.Diagnostics...)
	names := make(map[string]string)
	for _, e := range plan.Endpoints {
		ds := e.Diagnostics
		if !e.Refused() {
			x := knative.New(e.Spec, unit)
			if other, taken := names[x.Name()]; taken && x.Name() != "" {
				x.Diagnostics.Errorf(quadlet.Pos{File: e.Spec.File.Path}, "rename one of the two, the file or by ServiceName=",
					"the Service %s is already that of %s", x.Name(), other)
			}
			names[x.Name()] = e.Spec.File.Path
			if ds = append(ds, x.Diagnostics...); strict {
				ds.Strict()
			}
			if !ds.HasErrors() {
				exports = append(exports, x)
			}
		}
		all = append(all, ds...)
	}
	all.Sort()
	return exports, all
}
