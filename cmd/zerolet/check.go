package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// check says what is wrong with the files, and what the others become.
func (c *call) check(ctx context.Context) (int, error) {
	plan, _, err := c.plan(ctx)
	if err != nil {
		return exitUsage, err
	}
	ds := plan.All()
	if c.json {
		return verdict(plan.Search, plan.All()), c.printJSON(newReport(plan, ds))
	}
	for _, d := range ds {
		c.stderr.print(d)
	}
	if len(plan.Endpoints) == 0 {
		return verdict(plan.Search, plan.All()), c.printf("%s\n", noSection(plan.Sources.Dirs()))
	}
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		if err := c.printf("%s.service: %s%s\n", e.Spec.Unit, wakesAndSleeps(e), together(e)); err != nil {
			return exitFailure, err
		}
	}
	return verdict(plan.Search, plan.All()), nil
}

// noSection says that nothing is scaled, and where a section has been looked for.
func noSection(dirs []string) string {
	if len(dirs) == 0 {
		return "none of the directories is there in which Quadlet looks for files"
	}
	return "no file has a [ScaleToZero] section in " + quadlet.Printable(strings.Join(slices.DeleteFunc(slices.Clone(dirs), func(dir string) bool {
		return slices.Contains(dirs, filepath.Dir(dir))
	}), " "))
}

func wakesAndSleeps(e *generator.Endpoint) string {
	by := e.NeededBy()
	switch {
	case !e.Spec.Dependency() && len(by) > 0:
		return fmt.Sprintf("listens on %s, %s, not while needed by %s", listensWhile(e), e.Spec.Stops(), strings.Join(by, " "))
	case !e.Spec.Dependency():
		return fmt.Sprintf("listens on %s, %s", listensWhile(e), e.Spec.Stops())
	case len(by) == 0:
		return "no port, needed by nothing"
	}
	return "no port, runs while needed by " + strings.Join(by, " ")
}

// together are the containers that wake and sleep with a pod.
func together(e *generator.Endpoint) string {
	if len(e.Members) == 0 {
		return ""
	}
	return ", with " + strings.Join(e.MemberServices(), " ")
}

// listensWhile is where a service listens, and when, unless that is always.
func listensWhile(e *generator.Endpoint) string {
	on := ranges(listens(e))
	if len(e.PartOf) == 0 {
		return on
	}
	return on + " while " + strings.Join(e.PartOf, " ") + " runs"
}
