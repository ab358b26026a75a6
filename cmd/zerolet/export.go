package main

import (
	"context"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/knative"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// export writes files for another engine. A file with an error, with --strict
// also one with a warning, is left out: the others are written.
func (c *call) export(ctx context.Context) (int, error) {
	if c.names[0] != "knative" {
		return exitUsage, failure{exitUsage, "export to what?", "zerolet export knative NAME"}
	}
	g, names, err := c.generator(c.names[1:])
	if err != nil {
		return exitUsage, err
	}
	plan := g.Read()
	if err := choose(plan, names); err != nil {
		return exitUsage, err
	}
	exports := c.exported(ctx, g, plan)
	ds := plan.All()
	for _, d := range ds {
		c.stderr.print(d)
	}
	if err := knative.Write(c.stdout, exports); err != nil {
		return exitFailure, err
	}
	return verdict(plan.Search, ds), nil
}

// exported are the exports that can be written, of what check takes, too. What
// is told of each is added to its endpoint. Another engine does not run podman:
// Quadlet is asked only where the machine has one, which may know other keys
// than the one that is built in.
func (c *call) exported(ctx context.Context, g generator.Generator, plan *generator.Plan) []knative.Export {
	all := make(map[*generator.Endpoint]knative.Export)
	names := make(map[string]string)
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		if e.Spec.File.Kind() != "Container" {
			e.Diagnostics.Errorf(e.Spec.SectionPos(), "write the containers of one Service by hand; kubectl explain ksvc.spec.template.spec.containers tells how",
				"a pod is not exported: of several containers Knative serves one, and no line says which")
			continue
		}
		x := knative.New(e.Spec, plan.Sources.Find)
		if other, taken := names[x.Name()]; taken && x.Name() != "" {
			x.Diagnostics.Errorf(quadlet.Pos{File: e.Spec.File.Path}, "rename one of the two, the file or by ServiceName=",
				"the Service %s is already that of %s", x.Name(), other)
		}
		names[x.Name()] = e.Spec.File.Path
		all[e] = x
	}
	if c.quadlet != "" {
		g.Convert(ctx, plan)
	}
	var exports []knative.Export
	for _, e := range plan.Endpoints {
		x, ok := all[e]
		if !ok {
			continue
		}
		e.Diagnostics = append(e.Diagnostics, x.Diagnostics...)
		if c.strict {
			e.Diagnostics.Strict()
		}
		if !e.Refused() {
			exports = append(exports, x)
		}
	}
	return exports
}
