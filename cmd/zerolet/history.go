package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// historyReport is what history --json prints; docs/json.md describes it.
type historyReport struct {
	Version  int             `json:"version"`
	Services []*service.Past `json:"services"`
}

// history tells what happened to the services.
func (c *call) history(ctx context.Context) (int, error) {
	span, err := scale.ParseSpan(c.since)
	if err != nil || span == scale.Infinity {
		return exitUsage, failure{exitUsage, fmt.Sprintf("--since=%s is not a time span", c.since), "write it as 12h, 7d or 2weeks"}
	}
	services, err := c.services(ctx, service.Standing)
	if err != nil {
		return exitFailure, err
	}
	all, err := c.host().Pasts(ctx, services, c.clock().Add(-span.Duration()), c.clock())
	if err != nil {
		return exitFailure, err
	}
	for i, p := range all {
		p.Rollbacks = c.rollbacks(services[i], c.clock().Add(-span.Duration()))
	}
	if c.svg != "" {
		if err := writeDrawing(c.svg, drawing(all)); err != nil {
			return exitFailure, err
		}
	}
	if c.json {
		return exitOK, c.printJSON(historyReport{1, all})
	}
	for _, p := range all {
		if err := c.printf("%s: %s\n  %s\n", p.Name, summary(p), timeline(p, c.ramp())); err != nil {
			return exitFailure, err
		}
	}
	return exitOK, c.scale(all)
}

func summary(p *service.Past) string {
	total := p.To.Sub(p.From)
	if total <= 0 {
		return "nothing is recorded"
	}
	text := plural(len(p.Wakes), "wake")
	if p.Failures > 0 {
		text += fmt.Sprintf(", clients turned away %s", plural(p.Failures, "time"))
	}
	for _, r := range p.Rollbacks {
		text += fmt.Sprintf(", back to the older %s %s ago", quadlet.Printable(r.Image), short(p.To.Sub(r.Time)))
	}
	if cold := p.Took(false); len(cold) > 0 {
		text += fmt.Sprintf(", cold start p50 %.2fs p99 %.2fs", service.Quantile(cold, 0.5), service.Quantile(cold, 0.99))
	}
	if thaws := p.Took(true); len(thaws) > 0 {
		text += fmt.Sprintf(", %d from frozen p50 %.1fms p99 %.1fms", len(thaws), 1e3*service.Quantile(thaws, 0.5), 1e3*service.Quantile(thaws, 0.99))
	}
	frozen := ""
	if len(p.Frozen) > 0 {
		frozen = fmt.Sprintf(", frozen %.1f %%", 100*p.WasFrozen().Seconds()/total.Seconds())
		frozen += memoryText(p.Frozen[len(p.Frozen)-1].Before, p.Frozen[len(p.Frozen)-1].After)
	}
	return text + fmt.Sprintf("%s, asleep %.1f %% of %s", frozen, 100*(1-p.Ran().Seconds()/total.Seconds()), short(total))
}

// memoryText tells of the memory of what is frozen, in brackets, as far as it is known.
func memoryText(before, after int64) string {
	megabytes := func(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
	switch {
	case before == 0:
		return ""
	case after == 0:
		return " (" + megabytes(before) + ")"
	}
	return " (" + megabytes(before) + ", " + megabytes(after) + " after reclaim)"
}

// columns is how wide the timeline is on a terminal.
const columns = 72

// timeline shows how much of each part of the time the container ran, and was not frozen.
func timeline(p *service.Past, ramp []string) string {
	var b strings.Builder
	step := p.To.Sub(p.From) / columns
	for i := range columns {
		from := p.From.Add(time.Duration(i) * step)
		b.WriteString(ramp[level(p.UsedIn(from, from.Add(step)), step, len(ramp)-1)])
	}
	return b.String()
}

// level is a share in steps. A little is not nothing.
func level(part, whole time.Duration, highest int) int {
	if part <= 0 || whole <= 0 {
		return 0
	}
	return min(highest, max(1, int(math.Round(float64(highest)*part.Seconds()/whole.Seconds()))))
}

// ramp are the characters of a timeline from asleep to awake.
func (c *call) ramp() []string {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(c.getenv(name)); v != "" {
			if strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8") {
				return strings.Split("·▁▂▃▄▅▆▇█", "")
			}
			break
		}
	}
	return strings.Split(".:-=+*#", "")
}

// scale says what the ends of the timelines are, if they are the same for all.
func (c *call) scale(all []*service.Past) error {
	if len(all) == 0 {
		return c.printf("no container is scaled\n")
	}
	return c.printf("  each from its first record, %s ago at most, to now; %s asleep, %s awake\n", c.since, c.ramp()[0], c.ramp()[len(c.ramp())-1])
}
