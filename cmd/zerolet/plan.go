package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// plan goes the generator's own way up to the units, for the named files or
// all.
func (c *call) plan(ctx context.Context) (*generator.Plan, []generator.Unit, error) {
	names, dirs, err := located(c.names)
	if err != nil {
		return nil, nil, failure{exitUsage, err.Error(), ""}
	}
	plan := c.planOf(ctx, dirs...)
	if len(names) > 0 {
		if err := plan.Select(names); err != nil {
			return nil, nil, failure{exitUsage, err.Error(), ""}
		}
	}
	return plan, plan.Units(c.layout()), nil
}

// planOf is the plan of every file, those in dirs first.
func (c *call) planOf(ctx context.Context, dirs ...string) *generator.Plan {
	g := generator.Generator{
		Search:  quadlet.Search{Manager: c.manager, Getenv: c.getenv, UID: c.uid},
		Quadlet: c.quadlet,
		Dirs:    dirs,
	}
	return g.Plan(ctx)
}

func (c *call) layout() generator.Layout {
	return generator.Layout{
		Proxy:     filepath.Join(c.prefix, "libexec/zerolet/zerolet-proxy"),
		Zerolet:   filepath.Join(c.prefix, "bin/zerolet"),
		AdminUnit: generator.AdminUnit(c.manager, c.getenv),
	}
}

// realDir resolves the links in a file's directory, as the search does.
func realDir(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
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
