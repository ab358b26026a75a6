package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// explain tells what was made of a file, from which of its lines, and what
// follows from that.
func (c *call) explain(ctx context.Context) (int, error) {
	plan, units, err := c.plan(ctx)
	if err != nil {
		return exitUsage, err
	}
	for _, d := range plan.All() {
		c.stderr.print(d)
	}
	all := *c
	all.names = nil
	running, err := all.services(ctx)
	if err != nil {
		return exitFailure, err
	}
	for i, e := range plan.Endpoints {
		if e.Refused() {
			continue
		}
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		s := &service{name: e.Spec.Unit}
		if at := slices.IndexFunc(running, func(s *service) bool { return s.name == e.Spec.Unit }); at >= 0 {
			s = running[at]
		}
		if err := c.explainOne(ctx, e, s, units); err != nil {
			return exitFailure, err
		}
	}
	return verdict(plan.Search, plan.All()), nil
}

func (c *call) explainOne(ctx context.Context, e *generator.Endpoint, s *service, units []generator.Unit) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s is made of\n", e.Spec.Unit)
	for _, path := range files(e.Spec.File) {
		fmt.Fprintf(&b, "  %s\n", path)
	}
	fmt.Fprintf(&b, "\nunits (zerolet render --%s %s prints them):\n", c.manager, e.Spec.Unit)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, u := range units {
		if u.Source == e.Spec.File.Path {
			fmt.Fprintf(table, "  %s\t%s\n", filepath.Join(u.Priority.String(), u.Name), role(e, u))
		}
	}
	_ = table.Flush() // into memory

	fmt.Fprintf(&b, "\nwhat happens:\n")
	table = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if e.Spec.Dependency() {
		fmt.Fprintf(table, "  %s\t%s\n", wakesAndSleeps(e), line(e.Spec.SectionPos()))
	} else {
		c.explainPorts(table, e)
	}
	_ = table.Flush() // into memory

	held, err := c.heldBy(ctx, s)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nwhat keeps it awake:\n")
	if !e.Spec.Dependency() {
		fmt.Fprintf(&b, "  every open connection: %d now\n", s.connections())
	}
	for _, name := range s.others() {
		fmt.Fprintf(&b, "  %s, while it runs: %s\n", name, map[bool]string{true: "it does", false: "it does not"}[slices.Contains(held, name)])
	}
	if at := s.sleepsAt(); !at.IsZero() {
		fmt.Fprintf(&b, "  it goes to sleep in %s if nobody comes\n", short(at.Sub(c.clock())))
	}
	if len(s.changed(units)) > 0 || !s.socket.Found() && !s.dependency() {
		fmt.Fprintf(&b, "\nthis is not yet so: zerolet apply --%s\n", c.manager)
	}
	return c.printf("%s", b.String())
}

// explainPorts tells what the sockets are for, and what comes of a client.
func (c *call) explainPorts(table io.Writer, e *generator.Endpoint) {
	for _, f := range e.Forwards {
		fmt.Fprintf(table, "  listens on %s, which %s\t%s\n", f, leadsTo(e, f), line(f.Listen.Pos))
	}
	if len(e.Spec.AllowFrom) > 0 {
		fmt.Fprintf(table, "  only %s may connect; the others are %s, and wake nothing\t%s\n", joined(e.Spec.AllowFrom),
			map[quadlet.Manager]string{quadlet.System: "not heard", quadlet.User: "reset"}[c.manager], origin(e.Spec, "AllowFrom"))
	}
	fmt.Fprintf(table, "  the first client starts %s.service; each is held until the app accepts, at most %s\t%s\n",
		e.Spec.Unit, e.Spec.StartTimeout, origin(e.Spec, "StartTimeout"))
	if e.Inside() {
		what, key := seesClients(e.Spec)
		fmt.Fprintf(table, "  the app sees %s\t%s\n", what, origin(e.Spec, key))
	}
	fmt.Fprintf(table, "  %s\t%s\n", stops(e), origin(e.Spec, "IdleTimeout"))
	for _, p := range e.Spec.Published {
		fmt.Fprintf(table, "  %s stays published by Podman and is no use\t%s\n", p.Value, line(p.Pos))
	}
	if !e.Spec.AutoStart {
		fmt.Fprintf(table, "  nothing starts the socket but [Install] or a person\t%s\n", origin(e.Spec, "AutoStart"))
	}
}

// files are the .container file and the drop-ins that say something.
func files(f *quadlet.File) []string {
	paths := []string{quadlet.Printable(f.Path)}
	for _, e := range f.Entries {
		if path := quadlet.Printable(e.Pos.File); !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	return paths
}

func role(e *generator.Endpoint, u generator.Unit) string {
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
		return "where the proxy asks for sockets inside the container"
	case u.Name == wire.Entry.Of(name):
		return "enters the container's network for the proxy, and makes them"
	case u.Name == wire.Wake.Of(name):
		return "starts the container for the first client who may connect"
	case u.Name == wire.Open.Of(name):
		return "lets clients in again once the container has stopped"
	case strings.HasSuffix(filepath.Dir(u.Name), ".service.d") && filepath.Base(u.Name) == "50-zerolet-"+name+".conf":
		return "has " + strings.TrimSuffix(filepath.Dir(u.Name), ".d") + " bring the container up, and back"
	case u.Name == wire.Container.Of(name):
		return "the container, up while it is needed"
	}
	if by := strings.TrimSuffix(filepath.Dir(u.Name), ".d"); by != "sockets.target" {
		return "brings the socket up with " + by
	}
	return "brings the socket up at reload and boot"
}

func leadsTo(e *generator.Endpoint, f generator.Forward) string {
	switch {
	case e.Spec.Native:
		return "the app takes over itself"
	case f.Listen.ContainerPath != "":
		return "leads to " + f.Listen.ContainerPath
	}
	return fmt.Sprintf("leads to the container's port %d", f.Listen.ContainerPort)
}

// seesClients is what the app knows of who they are, and the key that says so.
func seesClients(s *quadlet.Spec) (what, key string) {
	switch {
	case s.ProxyProtocol != "no":
		return "the container's own address, and is told each client's by the PROXY protocol", "ProxyProtocol"
	case s.ClientAddress == "proxy":
		return "the container's own address as that of each client", "ClientAddress"
	}
	return "each client's own address", "ClientAddress"
}

func joined(prefixes []netip.Prefix) string {
	words := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		words = append(words, p.String())
	}
	return strings.Join(words, " ")
}

// origin is the line that sets a key, or says that none does.
func origin(s *quadlet.Spec, key string) string {
	if e, ok := s.Setting(key); ok {
		return line(e.Pos)
	}
	return "default of " + key + "="
}

func line(p quadlet.Pos) string {
	return fmt.Sprintf("%s:%d", quadlet.Printable(filepath.Base(p.File)), p.Line)
}
