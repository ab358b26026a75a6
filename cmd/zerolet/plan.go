package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// plan goes the generator's own way up to the units, for the named files or
// all.
func (c *call) plan(ctx context.Context) (*generator.Plan, []generator.Unit, error) {
	g, names, err := c.generator(c.names)
	if err != nil {
		return nil, nil, err
	}
	plan := g.Plan(ctx)
	if err := choose(plan, names); err != nil {
		return nil, nil, err
	}
	return plan, plan.Units(c.layout()), nil
}

// generator is the one of the manager. Files that are named by their paths are
// among those that it reads, and first.
func (c *call) generator(names []string) (generator.Generator, []string, error) {
	names, dirs, err := located(names)
	if err != nil {
		return generator.Generator{}, nil, failure{exitUsage, err.Error(), ""}
	}
	return generator.Generator{
		Search:     quadlet.Search{Manager: c.manager, Getenv: c.getenv, UID: c.uid, UnprivilegedPort: c.unprivileged, LegacyCgroups: c.legacyCgroups},
		Quadlet:    c.quadlet,
		Processors: c.processors,
		Dirs:       dirs,
		AdminUnit:  generator.AdminUnit(c.manager, c.getenv),
	}, names, nil
}

// choose keeps the named files in the plan, or all.
func choose(plan *generator.Plan, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := plan.Select(names); err != nil {
		return failure{exitUsage, err.Error(), ""}
	}
	return nil
}

// planOf is the plan of every file.
func (c *call) planOf(ctx context.Context) *generator.Plan {
	g, _, _ := c.generator(nil) // no name that could be wrong
	return g.Plan(ctx)
}

func (c *call) layout() generator.Layout {
	return generator.Layout{
		Proxy:   filepath.Join(c.prefix, "libexec/zerolet/zerolet-proxy"),
		StandIn: filepath.Join(c.prefix, "libexec/zerolet/standin"),
		Zerolet: filepath.Join(c.prefix, "bin/zerolet"),
	}
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

// realDir resolves the links in a file's directory, as the search does.
func realDir(path string) (string, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory: name the files in it", path)
	}
	if err != nil {
		return "", err
	}
	dir, err := quadlet.RealDir(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

// verdict is the exit status for what was found in the search and in the files.
func verdict(search, all quadlet.Diagnostics) int {
	switch {
	case search.HasErrors():
		return exitFailure
	case all.HasErrors():
		return exitError
	}
	return exitOK
}
