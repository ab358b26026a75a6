package generator

import (
	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// A proxy that starts before the container has it started by the target of its
// wake. A user's manager takes that from the user's own processes. The system's
// takes nothing from a dynamic user, but it starts what belongs to a socket when
// somebody connects to that: the waker, which wants the target and is ordered after
// it. It has one thing to say, that the start is over, and ends.

// hasWaker reports whether the proxy needs one.
func (e *Endpoint) hasWaker() bool { return e.manager == quadlet.System && e.startedByProxy() }

// wakerDir is root's alone. The proxy is shown its own socket in it.
const wakerDir = "%t/zerolet-waker"

func (e *Endpoint) wakerPath() string { return wakerDir + "/" + e.shortName() }

// wakerSocket is that of the waker.
func (e *Endpoint) wakerSocket() Unit {
	return e.rootSocket("Waker of ", wire.WakerSocket, wire.Waker, e.wakerPath())
}

// waker has no rights but to hear who has connected.
func (e *Endpoint) waker(l Layout) Unit {
	service := section("Service",
		"Type", "oneshot",
		"ExecStart", l.command(wire.Config{Waker: true}))
	for _, pairs := range [][][2]string{everySandbox(), wakerSandbox()} {
		for _, pair := range pairs {
			add(service, pair[0], pair[1])
		}
	}
	return e.unit(e.name(wire.Waker), Normal,
		e.about("Waker of ",
			"Wants", e.name(wire.Wake),
			"After", e.name(wire.Wake),
			"StartLimitIntervalSec", "0"),
		service)
}

// wakerSandbox has no mount namespace, which would take 15 ms of a wake.
func wakerSandbox() [][2]string {
	return [][2]string{
		{"CapabilityBoundingSet", ""},
		{"RestrictAddressFamilies", "AF_UNIX"},
		{"SystemCallFilter", "@system-service"},
		{"SystemCallFilter", noListen},
		{"RestrictNamespaces", "yes"},
		{"ProtectClock", "yes"},
		{"ProtectHostname", "yes"},
		{"DevicePolicy", "closed"},
	}
}

// wakeThrough has the proxy find the waker.
func (e *Endpoint) wakeThrough(u, service *unit.UnitSection) {
	add(u, "Wants", e.name(wire.WakerSocket))
	add(u, "After", e.name(wire.WakerSocket))
	add(u, "PartOf", e.name(wire.WakerSocket)) // the socket that it is shown is that one
	add(service, "TemporaryFileSystem", wakerDir)
	add(service, "BindReadOnlyPaths", e.wakerPath())
}
