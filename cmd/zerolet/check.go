package main

import (
	"context"
	"fmt"
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
		return verdict(plan.Search, plan.All()), newReport(plan, ds).write(c.stdout)
	}
	for _, d := range ds {
		c.stderr.print(d)
	}
	for _, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		if err := c.printf("%s.service: listens on %s, %s\n", e.Spec.Unit, strings.Join(listens(e), " "), stops(e)); err != nil {
			return exitFailure, err
		}
	}
	return verdict(plan.Search, plan.All()), nil
}

func stops(e *generator.Endpoint) string {
	if e.Spec.IdleTimeout == quadlet.Infinity {
		return "never stops"
	}
	return fmt.Sprintf("stops %s after the last connection", e.Spec.IdleTimeout)
}
