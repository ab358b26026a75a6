// Package service sees how all services stand: what systemd knows of their
// units, what the kernel listens on, what zerolet-proxy and systemd have written
// into the journal. Each is asked once, whatever their number. It changes
// nothing, and reads no .container file.
package service

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Service is one scaled container, or a pod, as systemd has it.
type Service struct {
	Name      string // of its units, without a suffix
	Socket    systemd.Unit
	Proxy     systemd.Unit
	Container systemd.Unit
	Target    systemd.Unit // starts the container for who may wake it, where the proxy is first
	Needing   systemd.Unit // keeps up what the container needs
	Opener    systemd.Unit // opens the sockets again with Mode=native
	Timer     systemd.Unit // wakes it at the times of a calendar
	Caller    systemd.Unit // does so for the timer
	// the system's way into the container
	EntrySocket, Entry systemd.Unit
	StandIn            systemd.Unit // has the container's names on a network
	// the way to have the system's manager start the target
	WakerSocket, Waker systemd.Unit
	Healthy            systemd.Unit // asks whether the container is healthy while it starts

	Members []*Service // the containers of a pod, each with its unit alone

	Abandoned bool // the proxy runs, and its unit has no file any more
	Relic     bool // so it is with the socket, which listens no more: to start it does nothing

	Group  string   // what it waits to have for itself (Exclusive=)
	Before []string // who has that now

	NotListening []string  // addresses of the socket on which nothing listens
	HeldBy       []string  // units besides the service's own that run and keep the container up
	Wake         Record    // the last one
	Failed       Record    // the last client that was turned away since
	Broke        time.Time // when the container failed last since, other than by a stop that was asked for
	Asked        bool      // its last end was

	starting, started time.Time // of the container, for the last wake
	missing           []string  // units that the container needs, and that do not run
	missed            time.Time // when the last of them that failed had begun
	needStarts        bool      // one of them starts
	tried             time.Time // when the container had begun that broke
}

// parts are the units in the order of [wire.Units].
func (s *Service) parts() []*systemd.Unit {
	return []*systemd.Unit{&s.Socket, &s.Proxy, &s.Container, &s.Target, &s.Needing, &s.Opener, &s.Timer, &s.Caller, &s.EntrySocket, &s.Entry, &s.StandIn, &s.WakerSocket, &s.Waker, &s.Healthy}
}

// Units are the names of the service's units, in an order in which they can
// come up. That of a unit that there is not is one, too.
func (s *Service) Units() []string {
	var names []string
	for _, u := range wire.Units() {
		names = append(names, u.Of(s.Name))
	}
	return names
}

// Unit is the one of that name.
func (s *Service) Unit(name string) systemd.Unit {
	for k, u := range wire.Units() {
		if u.Of(s.Name) == name {
			return *s.parts()[k]
		}
	}
	return nil
}

// split is the name of the service that a unit may belong to, and which of its
// units that would be.
func split(unit string) (name string, kind wire.Unit) {
	for _, kind := range []wire.Unit{wire.Socket, wire.Proxy, wire.Container} {
		if name, ok := kind.Name(unit); ok {
			return name, kind
		}
	}
	return "", ""
}

// Of is the name of the service that a unit may belong to.
func Of(unit string) string {
	name, _ := split(unit)
	return name
}

// Called reports whether a person means this service.
func (s *Service) Called(name string) bool {
	if slices.ContainsFunc(s.Members, func(m *Service) bool { return m.Called(name) }) {
		return true // for its pod
	}
	if strings.Contains(name, "/") {
		return s.Source() == name
	}
	file := filepath.Base(s.Source())
	return strings.TrimSuffix(name, ".service") == s.Name || name == file || name == strings.TrimSuffix(file, filepath.Ext(file))
}

// Dependency reports whether the container has no port: it runs while another
// unit needs it.
func (s *Service) Dependency() bool {
	return !s.Socket.Found() && !s.Proxy.Found() && !s.Refused() && ofContainer(s.Container)
}

// Refused reports whether the file has an error and the service says so instead
// of running.
func (s *Service) Refused() bool {
	return ofContainer(s.Container) && wire.IsRefused(s.Container["Documentation"])
}

// Orphan reports whether the file is gone, or scaled no more, and what it had
// become still runs.
func (s *Service) Orphan() bool {
	return !s.Socket.Found() && !s.Proxy.Found() && !s.Refused() && !s.Dependency()
}

// Source is the Quadlet file.
func (s *Service) Source() string {
	for _, u := range []systemd.Unit{s.Socket, s.Proxy, s.Container} {
		if Generated(u) {
			return u["SourcePath"]
		}
	}
	return ""
}

// Listens are the sockets of the socket unit for clients.
func (s *Service) Listens() []Listener { return s.sockets(false) }

// sockets are those of the socket unit: for clients, or that to which the stand-in
// brings its own.
func (s *Service) sockets(forStandIn bool) []Listener {
	var all []Listener
	for line := range strings.Lines(s.Socket["Listen"]) {
		if l, ok := parseListener(strings.TrimSpace(line)); ok && (l.Kind == "SequentialPacket") == forStandIn {
			all = append(all, l)
		}
	}
	return all
}

// standsIn reports whether the stand-in listens, or is about to. While systemd waits
// with the next try, it calls a unit activating.
func (s *Service) standsIn() bool {
	return s.StandIn.Is("active") || s.StandIn.Is("activating") && s.StandIn["SubState"] == "start"
}

// Absent reports whether the stand-in is to listen and does not run.
func (s *Service) Absent() bool {
	return len(s.Networks()) > 0 && s.Socket.Is("active") && !s.standsIn()
}

// Networks are the ports of the stand-in, each after its network.
func (s *Service) Networks() []string {
	return wire.StandInPorts(strings.Fields(s.StandIn["ExecStart"]))
}

// Allowed are the addresses that may connect, if there are such (AllowFrom=):
// the system's socket knows them, in a user's manager the proxy does.
func (s *Service) Allowed() (prefixes []netip.Prefix, limited bool) {
	for _, word := range strings.Fields(s.Socket["IPAddressAllow"]) {
		if p, err := netip.ParsePrefix(word); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	prefixes = append(prefixes, wire.AllowFrom(strings.Fields(s.Proxy["ExecStart"]))...)
	return prefixes, len(prefixes) > 0
}

// Others are the units besides those of the service that may keep its container
// up.
func (s *Service) Others() []string {
	names := slices.DeleteFunc(s.dependents(), func(name string) bool {
		return name == wire.Proxy.Of(s.Name) || name == wire.Wake.Of(s.Name) || s.member(name) != nil
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// dependents are the units that need the container. The targets that outlast the stop
// of what a container needs (generator/needing.go) stand for others of them.
func (s *Service) dependents() []string {
	return slices.DeleteFunc(s.Container.Needs(), func(name string) bool {
		_, needing := wire.Needing.Name(name)
		return needing
	})
}

// needs are the units without which the container, which has not begun to start,
// does not.
func (s *Service) needs() []string {
	if !s.Container.Is("inactive") {
		return nil
	}
	return strings.Fields(s.Container["Requires"] + " " + s.Container["BindsTo"])
}
