// Package wire holds what the programs say to each other: how the units of a
// container are called and marked, the command line of zerolet-proxy, what it
// tells systemd and the journal. Whoever writes one of these and whoever reads
// it take it from here. It does nothing: it opens no file and asks nobody.
package wire

import (
	"slices"
	"strings"
)

// Unit is what a unit does for a container, as the end of its name. The
// beginning is the same for all units of a container.
type Unit string

// The units of a container.
const (
	Container   Unit = ".service"
	Socket      Unit = "-proxy.socket"     // holds the ports
	Proxy       Unit = "-proxy.service"    // holds the clients; runs while there are any
	Wake        Unit = "-wake.target"      // starts the container for a client who may connect
	Needing     Unit = "-needs.target"     // starts the container anew when what it needs has stopped
	Open        Unit = "-open.service"     // opens the sockets that a proxy with --native has left shut
	Timer       Unit = "-calendar.timer"   // wakes the container at the times of a calendar
	Caller      Unit = "-calendar.service" // does so
	EntrySocket Unit = "-entry.socket"
	StandIn     Unit = "-standin.service" // has the container's names on a network while it sleeps
	WakerSocket Unit = "-waker.socket"
	Waker       Unit = "-waker.service"   // has the system's manager start the container for the proxy
	Entry       Unit = "-entry.service"   // makes sockets inside a rootful container for its proxy
	Healthy     Unit = "-healthy.service" // asks whether the container is healthy while it starts
)

// What zerolet knows beyond a boot is in these directories, the user's below the
// home directory. They go with zerolet.
const (
	SystemState = "/var/lib/zerolet"
	UserState   = ".local/state/zerolet"
)

// Starts is the file, in the runtime directory of a manager, of the containers that
// start. It goes with zerolet, too.
const Starts = "zerolet-starts"

// Wakes is the directory, in a manager's cache, of how long wakes have taken, and
// Results the one, in its runtime directory, of how containers have ended, both for
// the page of WaitingPage=. In each, a service has a directory by a name of the
// generator's.
// They go with zerolet, too.
const (
	Wakes   = "zerolet-wakes"
	Results = "zerolet-page"
)

// Keepers is the pod of the containers that keep what a sleeping one uses from
// "podman prune". The command makes it, and the unit that clears up after zerolet
// removes it.
const Keepers = "zerolet-keep"

// KeepersLabel is the label of that pod, by which it is known for ours.
const KeepersLabel = "io.zerolet.keepers"

// Units are all of them. A container has those that its file asks for.
func Units() []Unit {
	return []Unit{Socket, Proxy, Container, Wake, Needing, Open, Timer, Caller, EntrySocket, Entry, StandIn, WakerSocket, Waker, Healthy}
}

// Of is the name of the unit for the container of this name. For an instance it is
// one, too: "site-proxy@82.socket" is no "site@82-proxy.socket", which would have the
// drop-ins of site@.service's kind, and be an instance "82-proxy" (systemd.unit(5)).
func (u Unit) Of(name string) string {
	base, instance, ok := strings.Cut(name, "@")
	if !ok {
		return name + string(u)
	}
	part, kind := u.split()
	return base + part + "@" + instance + kind
}

// Name is the name whose unit this is, if it is one.
func (u Unit) Name(unit string) (name string, ok bool) {
	base, instance, template := strings.Cut(unit, "@")
	if !template {
		return strings.CutSuffix(unit, string(u))
	}
	part, kind := u.split()
	base, ok = strings.CutSuffix(base, part)
	instance, is := strings.CutSuffix(instance, kind)
	return base + "@" + instance, ok && is
}

// split is "-proxy" and ".socket".
func (u Unit) split() (part, kind string) {
	i := strings.LastIndexByte(string(u), '.')
	return string(u[:i]), string(u[i:])
}

// CalendarDir is where a calendar leaves word for a proxy that runs already, below
// the runtime directory of the manager. Who may not write there cannot keep a
// container awake.
const CalendarDir = "zerolet-calendar"

// CalendarFile is the file in which it does so for the container of this name.
func CalendarFile(name string) string { return CalendarDir + "/" + name }

// Documentation is in the Documentation= of every unit that the generator
// writes. With a FragmentPath= below a generator's directory it tells the units
// of zerolet from others of such names: no person writes there, and no other
// generator writes this. systemd forgets it with the file.
const Documentation = "man:zerolet.container(5)"

// Refused is beside it in the unit that stands for a file with an error, and in
// no other. systemctl show does not show a key that systemd does not know ("X-"),
// and this is where zerolet check is explained.
const Refused = "man:zerolet(1)"

// Member is after it in the units of a pod's containers, at the end of what the
// generator writes. Nothing else about them is a service of its own.
const Member = "man:podman-pod(1)"

// IsMember reports whether the Documentation= is that of a container in a pod.
func IsMember(documentation string) bool {
	words := strings.FieldsFunc(documentation, func(r rune) bool { return r == ' ' || r == '"' })
	i := slices.Index(words, Documentation)
	return i >= 0 && i+1 < len(words) && words[i+1] == Member
}

// IsRefused reports whether the Documentation= is that of a refused file.
// systemctl show may put the words of a list in quotes.
func IsRefused(documentation string) bool { return strings.Contains(documentation, Refused) }

// IsOurs reports whether the Documentation= is that of a unit of the generator's.
func IsOurs(documentation string) bool { return strings.Contains(documentation, Documentation) }
