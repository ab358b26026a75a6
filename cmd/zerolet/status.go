package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// statusReport is what status --json prints; docs/status.md describes it.
type statusReport struct {
	Version  int             `json:"version"`
	Now      time.Time       `json:"now"`
	Services []serviceReport `json:"services"`
}

// serviceReport is a service as status --json prints it.
type serviceReport struct {
	Name         string        `json:"name"`
	File         string        `json:"file,omitempty"`
	State        service.State `json:"state"`
	Since        *time.Time    `json:"since,omitempty"`
	Listen       []string      `json:"listen"`
	NeededBy     []string      `json:"neededBy,omitempty"`
	Members      []string      `json:"members,omitempty"` // the services of a pod's containers
	NotListening []string      `json:"notListening,omitempty"`
	Connections  int           `json:"connections"`
	LastWake     *service.Wake `json:"lastWake,omitempty"`
	Memory       *memoryReport `json:"memory,omitempty"`
	SleepsAt     *time.Time    `json:"sleepsAt,omitempty"`
	WakesAt      *time.Time    `json:"wakesAt,omitempty"`
	WaitsFor     []string      `json:"waitsFor,omitempty"`
	Update       string        `json:"update,omitempty"`
	Error        string        `json:"error,omitempty"`

	dependency bool
	group      string
}

// memoryReport is the memory of a frozen service, in bytes.
type memoryReport struct {
	Before int64 `json:"before"`
	After  int64 `json:"after,omitempty"`
}

// status shows how the services stand.
func (c *call) status(ctx context.Context) (int, error) {
	if !c.watch {
		return c.statusOnce(ctx, c.stdout)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var screen bytes.Buffer
		status, err := c.statusOnce(ctx, &screen)
		if ctx.Err() != nil { // by Ctrl-C: that is how it ends
			return exitOK, nil
		}
		if err != nil {
			return status, err
		}
		if c.live && !c.json {
			c.draw(screen.String())
		} else if _, err := screen.WriteTo(c.stdout); err != nil {
			return exitFailure, err
		}
		select {
		case <-ctx.Done():
			return exitOK, nil
		case <-tick.C:
		}
	}
}

// draw replaces what stands on the terminal: home, each line's rest and what is
// below erased, so that nothing flickers.
func (c *call) draw(screen string) {
	control(c.stdout, "\x1b[H")
	for line := range strings.Lines(screen) {
		_ = c.printf("%s", strings.TrimSuffix(line, "\n")) // the next one fails, too
		control(c.stdout, "\x1b[K\n")
	}
	control(c.stdout, "\x1b[J")
}

func (c *call) statusOnce(ctx context.Context, w io.Writer) (int, error) {
	depth := service.Dated
	if c.json {
		depth = service.Sourced
	}
	services, err := c.services(ctx, depth)
	if err != nil {
		return exitFailure, err
	}
	troubles, err := c.troubles(ctx, services...)
	if err != nil {
		return exitFailure, err
	}
	status, reports := exitOK, []serviceReport{}
	for _, s := range services {
		r := newServiceReport(s, troubles[s])
		r.Update = c.refusedImage(s.Name)
		reports = append(reports, r)
		if r.State == service.Failing || r.State == service.NotListening || r.Error != "" {
			status = exitError
		}
	}
	if c.json {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		if !c.watch { // a line each time
			encoder.SetIndent("", "  ")
		}
		return status, encoder.Encode(statusReport{1, c.clock(), reports})
	}
	return status, c.table(w, reports)
}

func newServiceReport(s *service.Service, trouble string) serviceReport {
	r := serviceReport{
		Name: s.Name, File: s.Source(), State: s.State(), Since: moment(s.Since()), Listen: []string{},
		NotListening: s.NotListening, Connections: s.Connections(), SleepsAt: moment(s.SleepsAt()),
		WakesAt: moment(s.WakesAt()), WaitsFor: s.Before, Error: trouble, group: s.Group,
	}
	for _, l := range s.Listens() {
		r.Listen = append(r.Listen, l.String())
	}
	for _, m := range s.Members {
		r.Members = append(r.Members, wire.Container.Of(m.Name))
	}
	r.Listen = append(r.Listen, s.Networks()...)
	if s.Dependency() {
		r.dependency, r.NeededBy = true, s.Others()
	}
	if !s.Wake.Time.IsZero() {
		took := s.ColdStart()
		if s.Dependency() {
			took = s.Wake.Took
		}
		r.LastWake = &service.Wake{Time: s.Wake.Time, Client: s.Wake.Client(), Seconds: took.Seconds(), Frozen: s.Wake.Frozen}
	}
	if before, after := s.Memory(); before > 0 {
		r.Memory = &memoryReport{before, after}
	}
	return r
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (c *call) table(w io.Writer, reports []serviceReport) error {
	if len(reports) == 0 {
		_, err := fmt.Fprintln(w, "no container is scaled: add a [ScaleToZero] section to a .container file, then zerolet apply")
		return err
	}
	now := c.clock()
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "NAME\tSTATE\tLISTENS ON\tOPEN\tLAST WAKE\tSLEEPS IN")
	for _, r := range reports {
		open := strconv.Itoa(r.Connections)
		if r.dependency {
			open = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.stateText(now), r.wokenBy(), open, r.wakeText(now), r.sleepText(now))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range reports {
		waits := ""
		if len(r.WaitsFor) > 0 {
			waits = fmt.Sprintf("waits for its turn (%s): %s", r.group, inTheWay(r.WaitsFor))
		}
		for _, text := range []string{waits, r.Error, r.Update} {
			if text == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s: %s\n", r.Name, quadlet.Printable(text)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r serviceReport) stateText(now time.Time) string {
	if r.Since == nil {
		return string(r.State)
	}
	text := fmt.Sprintf("%s for %s", r.State, short(now.Sub(*r.Since)))
	if r.Memory != nil {
		text += memoryText(r.Memory.Before, r.Memory.After)
	}
	return text
}

// wokenBy is what may wake it: sockets, or who needs it.
func (r serviceReport) wokenBy() string {
	switch {
	case !r.dependency:
		return ranges(r.Listen)
	case len(r.NeededBy) == 0:
		return "nothing needs it"
	}
	return "needed by " + strings.Join(r.NeededBy, " ")
}

func (r serviceReport) wakeText(now time.Time) string {
	switch {
	case r.LastWake == nil && r.dependency:
		return "-"
	case r.LastWake == nil:
		return "never"
	}
	by := ""
	if r.LastWake.Client != "" { // an app that accepts by itself may have seen it leave before anybody else did
		by = " by " + r.LastWake.Client
	}
	if r.LastWake.Frozen {
		return fmt.Sprintf("%s ago%s in %.1fms, frozen", short(now.Sub(r.LastWake.Time)), by, 1e3*r.LastWake.Seconds)
	}
	return fmt.Sprintf("%s ago%s in %.2fs", short(now.Sub(r.LastWake.Time)), by, r.LastWake.Seconds)
}

func (r serviceReport) sleepText(now time.Time) string {
	switch {
	case r.SleepsAt == nil && r.WakesAt != nil && r.State == service.Asleep:
		return "wakes in " + short(r.WakesAt.Sub(now))
	case r.SleepsAt == nil:
		return "-"
	}
	return short(r.SleepsAt.Sub(now))
}

// short is a duration in its largest unit: what a person reads at a glance.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}
