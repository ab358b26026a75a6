package main

import (
	"bytes"
	"context"
	"fmt"
)

// render prints units as "systemctl cat" does, each after the path it gets.
func (c *call) render(ctx context.Context) (int, error) {
	plan, units, err := c.plan(ctx)
	if err != nil {
		return exitUsage, err
	}
	for _, d := range plan.All() {
		c.stderr.print(d)
	}
	if len(c.names) == 0 { // they are of no file, but of all
		units = append(units, plan.Removal(c.layout(), units)...)
	}
	var b bytes.Buffer
	for i, u := range units {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s/%s\n", u.Priority, u.Name)
		if u.Link != "" {
			fmt.Fprintf(&b, "# link to %s\n", u.Link)
			continue
		}
		b.Write(u.Text())
	}
	return verdict(plan.Search, plan.All()), c.printf("%s", b.Bytes())
}
