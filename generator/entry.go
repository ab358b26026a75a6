package generator

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// A rootful container's proxy runs as a dynamic user and cannot enter the
// container's network. A second service, the entry, does that for it: it starts
// beside the container, enters, drops what it needed for that, and makes the
// proxy's sockets inside (proxy/internal/reach/entry.go). Nothing is published.
// And it looks at what the proxy is not shown: who is in the container by
// podman-exec(1).

// entered reports whether the proxy's sockets are made by the entry.
func (e *Endpoint) entered() bool { return e.manager == quadlet.System && e.Inside() }

// hasEntry reports whether there is one.
func (e *Endpoint) hasEntry() bool { return e.manager == quadlet.System && !e.Spec.Native }

// entryDir is root's alone. The proxy is shown its own socket in it.
const entryDir = "%t/zerolet-entry"

// entryPath is the socket of the entry, as a value of a unit. The path of one
// has at most 107 bytes (unix(7)), a unit's name 255; and ":" would part the
// words of BindReadOnlyPaths=.
func (e *Endpoint) entryPath() string { return entryDir + "/" + e.shortName() }

// shortName is that of the units, or what stands for it where it does not fit.
func (e *Endpoint) shortName() string {
	name := e.Spec.Unit
	if len(name) > 64 || strings.ContainsAny(name, `:\`) {
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:16])
	}
	return name
}

// entrySocket is that of the entry.
func (e *Endpoint) entrySocket() Unit {
	return e.rootSocket("Entry to ", wire.EntrySocket, wire.Entry, e.entryPath())
}

// rootSocket is how the proxy reaches a helper of root's. It is there while the
// proxy is. Left to itself it would not listen after two reloads, the first of which
// has read a file that wants no helper: systemd closes the socket of a unit that is
// gone and goes on calling it active.
func (e *Endpoint) rootSocket(about string, socket, service wire.Unit, path string) Unit {
	return e.unit(e.name(socket), Normal,
		e.about(about,
			"PartOf", e.name(wire.Socket),
			"StopWhenUnneeded", "yes",
			"StartLimitIntervalSec", "0"), // every wake starts it
		section("Socket",
			"ListenSequentialPacket", path,
			"DirectoryMode", "0700",
			"SocketMode", "0666", // the proxy is nobody in particular
			"RemoveOnStop", "yes",
			"Service", e.name(service),
			"TriggerLimitIntervalSec", "0"))
}

// entry serves one proxy and one container, and starts anew for the next.
func (e *Endpoint) entry(l Layout) Unit {
	c := wire.Config{Enter: true, Container: e.name(wire.Container), Members: e.MemberServices(), Client: e.name(wire.Proxy), Freeze: e.Frozen()}
	if e.entered() {
		c = e.found(c)
	}
	service := section("Service",
		"ExecStart", l.command(c),
		// One that somebody has stopped would be in the next one's place for good.
		"WatchdogSec", "30",
		"WatchdogSignal", "SIGKILL")
	for _, pairs := range [][][2]string{everySandbox(), e.entrySandbox()} {
		for _, pair := range pairs {
			add(service, pair[0], pair[1])
		}
	}
	return e.unit(e.name(wire.Entry), Normal,
		e.about("Entry to ",
			"Requires", e.name(wire.EntrySocket),
			"After", e.name(wire.EntrySocket),
			"StopWhenUnneeded", "yes",
			"StartLimitIntervalSec", "0"),
		service)
}

// found has the container's network found.
func (e *Endpoint) found(c wire.Config) wire.Config {
	if e.isKube() {
		c.Infra = true
	} else {
		c.PIDFile, c.Conmon = e.pidFile(), e.isPod()
	}
	return c
}

// entrySandbox leaves what entering takes: to look at a process of another
// user's (ptrace(2), PTRACE_MODE_READ_FSCREDS), to enter its network
// namespace (setns(2)), and inside to send from an address that is not there
// (ip(7), IP_TRANSPARENT) and to route the answers back (rtnetlink(7)); capset
// gives up the first two. It has no mount namespace, which would take 15 ms of
// a wake. One that stays outside needs nothing of that.
func (e *Endpoint) entrySandbox() [][2]string {
	sandbox := [][2]string{
		{"CapabilityBoundingSet", ""},
		{"RestrictAddressFamilies", "AF_UNIX"},
		{"SystemCallFilter", "@system-service"},
		{"SystemCallFilter", noListen},
		{"RestrictNamespaces", "yes"},
	}
	if e.entered() {
		sandbox = [][2]string{
			{"CapabilityBoundingSet", "CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_NET_ADMIN"},
			{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"},
			{"SystemCallFilter", "@system-service setns"},
			{"SystemCallFilter", noListen},
			{"SystemCallFilter", "capset"},
			{"RestrictNamespaces", "net"},
		}
	}
	return append(sandbox, [][2]string{
		{"ProtectClock", "yes"},
		{"ProtectHostname", "yes"},
		{"DevicePolicy", "closed"},
	}...)
}

// reachThrough has the proxy find the entry, and nothing else of the network.
func (e *Endpoint) reachThrough(u, service *unit.UnitSection) {
	add(u, "Wants", e.name(wire.Entry)+" "+e.name(wire.EntrySocket))
	add(u, "After", e.name(wire.Entry)+" "+e.name(wire.EntrySocket))
	add(u, "PartOf", e.name(wire.EntrySocket)) // the socket that it is shown is that one
	add(service, "TemporaryFileSystem", entryDir)
	add(service, "BindReadOnlyPaths", e.entryPath())
}
