package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/knative"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// export writes files for another engine. A file with an error, with --strict
// also one with a warning, is left out: the others are written.
func (c *call) export(context.Context) (int, error) {
	if c.names[0] != "knative" {
		return exitUsage, failure{exitUsage, "export to what?", "zerolet export knative NAME"}
	}
	plan, unit, err := exportPlan(quadlet.Search{Manager: c.manager, Getenv: c.getenv, UID: c.uid}, c.names[1:])
	if err != nil {
		return exitUsage, failure{exitUsage, err.Error(), ""}
	}
	exports, ds := exported(plan, unit, c.strict)
	for _, d := range ds {
		c.stderr.print(d)
	}
	if err := knative.Write(c.stdout, exports); err != nil {
		return exitFailure, err
	}
	return verdict(plan.Search, ds), nil
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
