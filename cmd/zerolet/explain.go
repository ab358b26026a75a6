package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// explain says what was made of a file, from which of its lines, and what
// follows from that. The rest is known only where the manager runs.
func (c *call) explain(ctx context.Context) (int, error) {
	plan, units, err := c.plan(ctx)
	if err != nil {
		return exitUsage, err
	}
	for _, d := range plan.All() {
		c.stderr.print(d)
	}
	running, unseen := c.look(ctx, service.Closely)
	for i, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		var b bytes.Buffer
		c.explainFile(&b, e, units)
		if unseen == nil {
			s := running.Named(e.Spec.Unit)
			if s == nil {
				s = &service.Service{Name: e.Spec.Unit}
			}
			c.explainState(&b, e, s, units)
		}
		if err := c.printf("%s", &b); err != nil {
			return exitFailure, err
		}
	}
	if unseen != nil {
		return exitFailure, unseen
	}
	return verdict(plan.Search, plan.All()), nil
}

// explainFile tells what comes of a file.
func (c *call) explainFile(b *bytes.Buffer, e *generator.Endpoint, units []generator.Unit) {
	fmt.Fprintf(b, "%s is made of\n", e.Spec.Unit)
	for _, path := range files(e) {
		fmt.Fprintf(b, "  %s\n", path)
	}
	fmt.Fprintf(b, "\nunits (%s prints them):\n", c.typed(e.Spec.Unit, "render"))
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, u := range units {
		if slices.ContainsFunc(e.Files(), func(f *quadlet.File) bool { return u.Source == f.Path }) {
			fmt.Fprintf(table, "  %s\t%s\n", filepath.Join(u.Priority.String(), u.Name), role(e, u))
		}
	}
	_ = table.Flush() // into memory

	fmt.Fprintf(b, "\nwhat happens:\n")
	table = tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	if e.Spec.Dependency() {
		fmt.Fprintf(table, "  %s\t%s\n", wakesAndSleeps(e), line(e.Spec.SectionPos()))
	} else {
		explainPorts(table, e)
	}
	if owner, at := e.Owner(); owner != nil {
		fmt.Fprintf(table, "  is in the network of %s, starts after it and stops with it\t%s\n", quadlet.Printable(owner.Name()), line(at))
	}
	explainKeys(table, e.Spec)
	if frozen := e.Frozen(); len(frozen) > 1 {
		fmt.Fprintf(table, "  these are frozen together, and thawed the other way round: %s\t%s\n", strings.Join(frozen, " "), line(e.Spec.SleepPos))
	}
	_ = table.Flush() // into memory
}

// explainState tells how the service stands.
func (c *call) explainState(b *bytes.Buffer, e *generator.Endpoint, s *service.Service, units []generator.Unit) {
	fmt.Fprintf(b, "\nwhat keeps it awake:\n")
	if !e.Spec.Dependency() {
		fmt.Fprintf(b, "  every open connection: %d now\n", s.Connections())
	}
	for _, name := range s.Others() {
		fmt.Fprintf(b, "  %s, while it runs: %s\n", name, map[bool]string{true: "it does", false: "it does not"}[slices.Contains(s.HeldBy, name)])
	}
	if before, after := s.Memory(); s.State() == service.Frozen {
		fmt.Fprintf(b, "  nothing: it is frozen now%s\n", memoryText(before, after))
	}
	if at := s.SleepsAt(); !at.IsZero() && s.State() == service.Frozen {
		fmt.Fprintf(b, "  it stops in %s if nobody comes\n", short(at.Sub(c.clock())))
	} else if !at.IsZero() {
		fmt.Fprintf(b, "  it goes to sleep in %s if nobody comes\n", short(at.Sub(c.clock())))
	}
	if at := s.WakesAt(); !at.IsZero() {
		fmt.Fprintf(b, "  the calendar, next in %s\n", short(at.Sub(c.clock())))
	}
	if len(s.Changed(units)) > 0 || !s.Socket.Found() && !s.Dependency() {
		fmt.Fprintf(b, "\nthis is not yet so: zerolet apply --%s\n", c.manager)
	}
}

// explainPorts tells what the sockets are for, and what stays Podman's.
func explainPorts(table io.Writer, e *generator.Endpoint) {
	for rest := e.Forwards; len(rest) > 0; {
		first, n := rest[0].Listen, 1 // those of one line, which may have thousands
		for n < len(rest) && rest[n].Listen.Pos == first.Pos && rest[n].Listen.ContainerPath == first.ContainerPath {
			n++
		}
		var on []string
		as := ""
		if names := e.NamesOn(rest[0]); len(names) > 0 {
			as = " as " + strings.Join(names, " and ")
		}
		for _, f := range rest[:n] {
			on = append(on, f.String())
		}
		fmt.Fprintf(table, "  listens on %s%s, which %s\t%s\n", ranges(on), as, leadTo(e, rest[:n]), line(first.Pos))
		rest = rest[n:]
	}
	for _, p := range e.Spec.Published {
		fmt.Fprintf(table, "  %s stays published by Podman and does not count as use\t%s\n", p.Value, line(p.Pos))
	}
}

// explainKeys tells what comes of the keys, set or not, where they mean something.
func explainKeys(table io.Writer, s *scale.Spec) {
	for _, k := range scale.Keys() {
		if s.Dependency() && !k.In(scale.WithoutPorts) {
			continue
		}
		if text := k.Explain(s); text != "" {
			fmt.Fprintf(table, "  %s\t%s\n", text, origin(s, k.Name))
		}
	}
}

// files are the Quadlet files and the drop-ins that say something.
func files(e *generator.Endpoint) []string {
	var paths []string
	for _, f := range e.Files() {
		paths = append(paths, quadlet.Printable(f.Path))
		for _, e := range f.Entries {
			if path := quadlet.Printable(e.Pos.File); !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

func role(e *generator.Endpoint, u generator.Unit) string {
	_, healthy := wire.Healthy.Name(u.Name)
	switch name := e.Spec.Unit; {
	case u.Link == "/dev/null":
		return "keeps [Install] from starting the container"
	case u.Link != "":
		return "[Install], for the socket"
	case u.Name == wire.Socket.Of(name):
		return "listens while nothing runs"
	case u.Name == wire.Proxy.Of(name):
		return map[bool]string{false: "zerolet-proxy: holds clients and forwards them", true: "zerolet-proxy: watches who is connected to the app"}[e.Spec.Native]
	case u.Name == wire.EntrySocket.Of(name):
		return "where the proxy asks for what it may not do itself"
	case u.Name == wire.Entry.Of(name):
		return map[bool]string{
			true:  "makes sockets inside the container's network for the proxy, and looks for podman exec",
			false: "looks for podman exec for the proxy",
		}[e.Inside()]
	case u.Name == wire.Timer.Of(name):
		return "when the calendar wakes it"
	case u.Name == wire.Caller.Of(name):
		return "wakes it then, and tells a proxy that runs already"
	case u.Name == filepath.Join(wire.Socket.Of(name)+".d", "50-zerolet-calendar.conf"):
		return "has the calendar run while the socket listens"
	case u.Name == wire.StandIn.Of(name):
		return "has the container's names on a network, and listens there while nothing runs"
	case u.Name == wire.Wake.Of(name):
		return "starts the container for the first client who may wake it"
	case u.Name == wire.Needing.Of(name):
		return "keeps up what the container needs, and starts that anew once it has been stopped"
	case u.Name == wire.WakerSocket.Of(name):
		return "where the proxy asks for that"
	case u.Name == wire.Waker.Of(name):
		return "has it started then"
	case u.Name == wire.Open.Of(name):
		return "lets clients in again once the container has stopped"
	case healthy && u.Priority == generator.Normal:
		return "asks whether it is healthy while it starts"
	case slices.Contains(e.MemberServices(), u.Name):
		return "a container of the pod, up while the pod is"
	case strings.HasSuffix(filepath.Dir(u.Name), ".service.d") && filepath.Base(u.Name) == "50-zerolet-"+name+".conf":
		return "has " + strings.TrimSuffix(filepath.Dir(u.Name), ".d") + " bring the container up, and back"
	case u.Name == wire.Container.Of(name):
		return "the " + e.Spec.What() + ", up while it is needed"
	}
	if by := strings.TrimSuffix(filepath.Dir(u.Name), ".d"); by != "sockets.target" {
		return "brings the socket up with " + by
	}
	return "brings the socket up at reload and boot"
}

func leadTo(e *generator.Endpoint, all []generator.Forward) string {
	var ports []string
	for _, f := range all {
		ports = append(ports, strconv.Itoa(int(f.Listen.ContainerPort)))
	}
	ports = slices.Compact(ports)
	switch {
	case e.Spec.Native:
		return "the app takes over itself"
	case all[0].Listen.ContainerPath != "":
		return "leads to " + all[0].Listen.ContainerPath
	case len(ports) > 1:
		return fmt.Sprintf("lead to the %s's ports %s", e.Spec.What(), ranges(ports))
	}
	return fmt.Sprintf("leads to the %s's port %s", e.Spec.What(), ports[0])
}

// origin is the line that sets a key, or says that none does.
func origin(s *scale.Spec, key string) string {
	if e, ok := s.Setting(key); ok {
		return line(e.Pos)
	}
	return "default of " + key + "="
}

func line(p quadlet.Pos) string {
	return fmt.Sprintf("%s:%d", quadlet.Printable(filepath.Base(p.File)), p.Line)
}
