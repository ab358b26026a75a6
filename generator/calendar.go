package generator

import (
	"fmt"
	"path/filepath"

	"github.com/zerolet/zerolet/proxy/wire"
)

// WakeOn= is a timer and a service that has the proxy started, and tells it that
// this is a use if it runs already (proxy/calendar.go). They are there with the
// socket: what does not listen is not woken either.

// calendarPath is the file that is touched, as a value of a unit.
func (e *Endpoint) calendarPath() string { return "%t/" + literal(wire.CalendarFile(e.Spec.Unit)) }

// calendar are the units of WakeOn=.
func (e *Endpoint) calendar() []Unit {
	timer := section("Timer")
	for _, when := range e.Spec.WakeOn {
		add(timer, "OnCalendar", literal(when))
	}
	add(timer, "AccuracySec", "1s") // else up to a minute later (systemd.timer(5))
	add(timer, "Unit", e.name(wire.Caller))

	starts := e.name(wire.Proxy)
	before := starts
	if e.startedByProxy() {
		starts = e.name(wire.Wake) // binds the proxy to itself
		before += " " + starts
	}
	call := section("Service",
		"Type", "oneshot",
		"RuntimeDirectory", wire.CalendarDir,
		"RuntimeDirectoryPreserve", "yes",
		"ExecStart", ":touch "+word(e.calendarPath()))
	if e.freezes() { // it does not look from time to time then
		add(call, "ExecStartPost", fmt.Sprintf("-:systemctl %s --quiet kill --kill-who=main --signal=%d -- %s",
			scope(e.manager), wire.GiveWay, word(literal(e.name(wire.Proxy)))))
	}
	socket := e.name(wire.Socket)
	return []Unit{
		e.unit(e.name(wire.Timer), Normal, e.about("Calendar of ", "PartOf", socket), timer),
		e.unit(e.name(wire.Caller), Normal,
			e.about("Call of the calendar of ",
				"Wants", starts,
				"Before", before,
				"StartLimitIntervalSec", "0"),
			call),
		// Not in the socket's own file: it need not be closed for a calendar.
		e.unit(filepath.Join(socket+".d", "50-zerolet-calendar.conf"), Normal, section("Unit", "Upholds", e.name(wire.Timer))),
	}
}
