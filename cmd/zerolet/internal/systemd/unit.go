package systemd

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Unit is what systemd knows of a unit: properties by their names, those that
// were asked for.
type Unit map[string]string

// Is reports whether the unit is in one of the states (ActiveState).
func (u Unit) Is(states ...string) bool { return slices.Contains(states, u["ActiveState"]) }

// Found reports whether there is a unit file.
func (u Unit) Found() bool { return u["LoadState"] != "" && u["LoadState"] != "not-found" }

// Waits reports whether something is going to happen to the unit.
func (u Unit) Waits() bool { return u["Job"] != "" && u["Job"] != "0" }

// Time is a time stamp, zero if it has never been.
func (u Unit) Time(property string) time.Time {
	us, err := strconv.ParseInt(u[property], 10, 64)
	if err != nil || us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// Span is a time span, or longest if it is more, as "infinity" is (2^64-1).
func (u Unit) Span(property string, longest time.Duration) time.Duration {
	us, err := strconv.ParseInt(u[property], 10, 64)
	if err != nil || us > longest.Microseconds() {
		return longest
	}
	return time.Duration(us) * time.Microsecond
}

// Dependents are the properties that name the units which keep this one up
// where it has StopWhenUnneeded=yes (systemd.unit(5)).
var Dependents = []string{"RequiredBy", "RequisiteOf", "WantedBy", "BoundBy", "UpheldBy"}

// Needs are the units that keep this one up.
func (u Unit) Needs() []string {
	var names []string
	for _, by := range Dependents {
		names = append(names, strings.Fields(u[by])...)
	}
	return names
}
