package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
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
		for _, text := range also(e.Spec) {
			if err := c.printf("  %s\n", text); err != nil {
				return exitFailure, err
			}
		}
	}
	return verdict(plan.Search, plan.All()), nil
}

// also is what comes of the keys that are set, but for those that wakesAndSleeps tells.
func also(s *scale.Spec) (texts []string) {
	for _, k := range scale.Keys() {
		if _, set := s.Setting(k.Name); !set || k.InStops {
			continue
		}
		if text := k.Explain(s); text != "" {
			texts = append(texts, text)
		}
	}
	return texts
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

// listensOn is where a service listens, on a network with the names that it has there.
func listensOn(e *generator.Endpoint) string {
	var host, network, words []string
	for _, f := range e.Forwards {
		if f.Device == "" {
			host = append(host, f.String())
		} else {
			network = append(network, f.String())
		}
	}
	if len(host) > 0 {
		words = append(words, ranges(host))
	}
	if len(network) > 0 {
		words = append(words, ranges(network)+" as "+strings.Join(names(e), " and "))
	}
	return strings.Join(words, " and ")
}

// names are those that the container has on networks: the same on each.
func names(e *generator.Endpoint) []string {
	for _, f := range e.Forwards {
		if names := e.NamesOn(f); len(names) > 0 {
			return names
		}
	}
	return nil
}

// listensWhile is where a service listens, and when, unless that is always.
func listensWhile(e *generator.Endpoint) string {
	on := listensOn(e)
	if len(e.PartOf) == 0 {
		return on
	}
	return on + " while " + strings.Join(e.PartOf, " ") + " runs"
}
