package generator

import (
	"slices"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
)

// The proxy that shows a page (WaitingPage=) remembers how long the last wakes took:
// the journal has it, and is not for a process that serves clients to read. It is no
// loss if it is gone (systemd.exec(5), CacheDirectory=).

// wakeTimes is the file, as a value of a unit.
func (e *Endpoint) wakeTimes() string { return "%C/" + wire.Wakes + "/" + e.shortName() + "/times" }

// showPage gives the proxy what it takes.
func (e *Endpoint) showPage(s *unit.UnitSection) {
	add(s, "CacheDirectory", wire.Wakes+"/"+e.shortName())
}

// resultDir is where the units of containers tell how they have ended, for the page: not
// every machine's D-Bus lets a dynamic user ask (it has to know the user's name).
const resultDir = "%t/" + wire.Results

func (e *Endpoint) wakeResult() string { return resultDir + "/" + e.shortName() }

// tellResult has a unit do so, whether it has failed or not.
func (e *Endpoint) tellResult(u *Unit) {
	if !e.Spec.Front.Page {
		return
	}
	const script = `mkdir -p "$0" && echo "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS" >"$0/$1"`
	set(u, "Service", "ExecStopPost", "-:/bin/sh -c "+word(script)+" "+word(e.wakeResult())+" %n")
}

// HasPage reports whether there is a service whose page has what is noted by a name.
func (p *Plan) HasPage(name string) bool {
	return slices.ContainsFunc(p.Endpoints, func(e *Endpoint) bool {
		return e.Spec.Front.Page && e.Spec.Unit != "" && e.shortName() == name
	})
}
