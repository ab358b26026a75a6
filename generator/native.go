package generator

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
)

// With Mode=native the container accepts from the sockets itself, and the
// proxy only watches. When it ends, it leaves the sockets shut to newcomers,
// so that the container that is being stopped takes no client along. Another
// service opens them when the container is gone.

// reserved are the names of the units that come with the container's.
func (e *Endpoint) reserved() (names []string) {
	for _, f := range e.Files() {
		if asksHealth(f) {
			names = append(names, wire.Healthy.Of(f.Unit()))
		}
	}
	for _, u := range e.beside() {
		names = append(names, e.name(u))
	}
	return names
}

// beside are the units of one that clients wake.
func (e *Endpoint) beside() []wire.Unit {
	if e.Spec.Dependency() {
		return nil
	}
	units := []wire.Unit{wire.Proxy, wire.Socket}
	if e.Spec.Native {
		units = append(units, wire.Open)
	}
	if len(e.Spec.WakeOn) > 0 {
		units = append(units, wire.Timer, wire.Caller)
	}
	if e.hasEntry() {
		units = append(units, wire.Entry, wire.EntrySocket)
	}
	if e.startedByProxy() {
		units = append(units, wire.Wake)
	}
	if len(e.required) > 0 {
		units = append(units, wire.Needing)
	}
	if e.hasWaker() {
		units = append(units, wire.Waker, wire.WakerSocket)
	}
	if e.hasStandIn() {
		units = append(units, wire.StandIn)
	}
	return units
}

// checkNativeNeeds refuses a container that another unit keeps up, too: no
// client wakes the proxy while the container has the sockets, so that nobody
// would see who is inside when the other unit is gone.
func (e *Endpoint) checkNativeNeeds() {
	if e.Spec.Native && len(e.Needs) > 0 && !e.Refused() {
		e.Diagnostics.Errorf(e.Needs[0].Pos, "leave Mode= out",
			"Mode=native is not for a container that another unit needs, as %s does %s", e.Needs[0].Unit, e.name(wire.Container))
		e.Needs = nil
	}
}

// watcher is the proxy's unit with Mode=native.
func (e *Endpoint) watcher(l Layout) Unit {
	service := section("Service",
		"Type", "exec",
		"NotifyAccess", "main", // for STATUS=
		"ExecStart", l.command(e.config()),
		"Restart", "on-failure",
		"RestartPreventExitStatus", fmt.Sprint(wire.ExitConfig), // the next one would not fare better
		"RestartSec", "1",
		// Where it remembers for the next proxy, if that follows at once, how
		// the app has its sockets and that it has shut them.
		"RuntimeDirectory", "zerolet/%N",
		"RuntimeDirectoryPreserve", "restart",
	)
	e.nativeSandbox(service)
	u := e.about("Proxy of ",
		"Requires", e.name(wire.Socket),
		"After", e.name(wire.Socket),
		// Who is passed the sockets gets them in blocking mode, and so does
		// everybody else: first the proxy, then the app, which sets the
		// mode that it wants. systemd never starts one of two units while
		// it stops the other, so this still waits for the old container.
		"Before", e.name(wire.Container),
		// Runs when the container has been stopped, or at once if it is
		// not going to be. Never in the way of a stop of the socket.
		"OnSuccess", e.name(wire.Open),
		"OnFailure", e.name(wire.Open),
		"OnSuccessJobMode", "fail",
		"OnFailureJobMode", "fail",
		"StartLimitIntervalSec", "0")
	e.uphold(u)
	return e.unit(e.name(wire.Proxy), Normal, u, service)
}

// opener opens the sockets that the watcher has left shut.
func (e *Endpoint) opener(l Layout) Unit {
	service := section("Service",
		"Type", "oneshot",
		"Sockets", e.name(wire.Socket),
		"ExecStart", l.command(wire.Config{Open: true}),
		"Restart", "on-failure",
		"RestartSec", "1",
	)
	e.nativeSandbox(service)
	return e.unit(e.name(wire.Open), Normal,
		e.about("Opening of the sockets of ",
			"After", e.name(wire.Container),
			// A proxy that is there opens them itself, and the app may have set
			// their mode, which they would lose.
			"ConditionPathExists", "!%t/zerolet/"+literal(strings.TrimSuffix(e.name(wire.Proxy), ".service")),
			"StartLimitIntervalSec", "0"),
		service)
}

// takeSockets has systemd pass the sockets to the container, through podman
// (podman-run(1), --preserve-fds; podman passes what LISTEN_FDS counts). The
// container cannot do without them, and must let go of them before they can be
// opened anew.
func (e *Endpoint) takeSockets(u *Unit) {
	set(u, "Unit", "Requires", e.name(wire.Socket))
	set(u, "Unit", "After", e.name(wire.Socket))
	set(u, "Service", "Sockets", e.name(wire.Socket))
}

// keepAlive finds silent dead peers, as the proxy does for its clients: the
// app's connections inherit it from the socket.
func keepAlive(s *unit.UnitSection) {
	for _, pair := range [][2]string{
		{"KeepAlive", "yes"},
		{"KeepAliveTimeSec", "30"},
		{"KeepAliveIntervalSec", "10"},
		{"KeepAliveProbes", "6"},
	} {
		add(s, pair[0], pair[1])
	}
}

// nativeSandbox is the proxy's without what it takes to reach the app.
func (e *Endpoint) nativeSandbox(s *unit.UnitSection) {
	whole := section("Service")
	e.sandbox(whole)
	for _, entry := range whole.Entries {
		value := entry.Value
		switch {
		case entry.Name == "RestrictAddressFamilies":
			value = "AF_UNIX AF_NETLINK" // notification and journal, sock_diag(7)
		case entry.Name == "RestrictNamespaces":
			value = "yes"
		case strings.HasPrefix(value, "@system-service"):
			value = "@system-service"
		}
		add(s, entry.Name, value)
	}
}
