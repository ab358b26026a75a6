package scale

import (
	"cmp"
	"os"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// A container that sleeps is stopped, or with Sleep=freeze frozen first. Where it
// cannot be frozen, or had better not be, it is stopped, and the file's line says so.

// The values of Sleep=.
const (
	SleepStop   = "stop"
	SleepFreeze = "freeze"
)

// IsLegacy reports whether this machine's cgroups are not those of version 2, the
// only ones whose frozen processes can be killed (cgroups(7)).
func IsLegacy() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err != nil
}

func (s *Spec) sleep(value string) error {
	sleep, err := oneOf(value, SleepStop, SleepFreeze)
	s.Freezes = sleep == SleepFreeze
	return err
}

// tellSleep leaves it to the generator to know what else is frozen.
func (s *Spec) tellSleep(c *wire.Config) {
	if s.Freezes {
		c.Freeze = []string{wire.Container.Of(s.Unit)}
	}
}

// checkSleep tells what does not go with Sleep=freeze.
func (s *Spec) checkSleep(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if !s.Freezes {
		return
	}
	s.SleepPos = e.Pos
	switch {
	case s.IdleTimeout == Infinity:
		s.NotFrozen(e.Pos, ds, "write how long it stays awake without a client, or leave one of the two out", "with IdleTimeout=infinity it does not sleep")
	case s.Exclusive != "":
		s.NotFrozen(e.Pos, ds, "leave one of the two out", "it would have what Exclusive=%s is about while others want it", s.Exclusive)
	case s.Fronted():
		s.NotFrozen(e.Pos, ds, "leave one of the two out", "whoever connects would thaw it, whoever it is (WakeBy=, Probe=, IgnoreAgent=, WaitingPage=)")
	case len(s.AllowFrom) > 0 && s.search.Manager == quadlet.User:
		s.NotFrozen(e.Pos, ds, "leave one of the two out", "whoever connects would thaw it: only the system's manager keeps others away (AllowFrom=)")
	case s.search.LegacyCgroups:
		s.NotFrozen(e.Pos, ds, "boot with systemd.unified_cgroup_hierarchy=1, or leave it out", "this machine has no cgroups of version 2")
	default:
		s.checkFrozen(s.File, ds)
	}
}

// NotFrozen has the container be stopped, and says at a line why it is not frozen.
func (s *Spec) NotFrozen(at quadlet.Pos, ds *quadlet.Diagnostics, hint, why string, args ...any) {
	ds.Warnf(at, hint, "the "+s.What()+" is stopped, not frozen: "+why, args...)
	s.Freezes = false
}

// checkFrozen tells what a container's own file has against its being frozen.
func (s *Spec) checkFrozen(f *quadlet.File, ds *quadlet.Diagnostics) {
	if e, why, hint := Unfreezable(f); why != "" && s.Freezes {
		s.NotFrozen(e.Pos, ds, hint, "%s", why)
	}
}

// Unfreezable is why the container of a file cannot be frozen, "" if it can, and the
// line that says so.
func Unfreezable(f *quadlet.File) (at quadlet.Entry, why, hint string) {
	const split = "leave it out: Quadlet sets split"
	const noAction = "leave it out: a container that is awake is asked again in time"
	if e, ok := f.Last("Container", "CgroupsMode"); ok && e.Value != "" && e.Value != "split" {
		return e, "without a cgroup of its own in that of its unit there is nothing to freeze", split
	}
	if e, ok := f.Last("Container", "HealthOnFailure"); ok && e.Value != "" && e.Value != "none" {
		return e, "a frozen one answers no health check, and Podman would " + e.Value + " it", noAction
	}
	for _, e := range f.All("Container", "PodmanArgs") {
		args := append(e.Arguments(), "")
		for i, arg := range args {
			option, value, valued := strings.Cut(arg, "=")
			if !valued && i+1 < len(args) {
				value = args[i+1]
			}
			switch {
			case option == "--cgroups" && value != "split":
				return e, "without a cgroup of its own in that of its unit there is nothing to freeze", split
			case option == "--health-on-failure" && value != "none":
				return e, "a frozen one answers no health check, and Podman would " + value + " it", noAction
			}
		}
	}
	return quadlet.Entry{}, "", ""
}

// checkStopAfter tells of what is about a frozen container alone.
func (s *Spec) checkStopAfter(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if !s.Freezes && s.SleepPos == (quadlet.Pos{}) {
		ds.Warnf(e.Pos, "write Sleep=freeze beside it, or leave it out", "%s= has no effect: the %s is not frozen", e.Key, s.What())
	}
}

func (s *Spec) explainSleep() string {
	switch {
	case !s.Freezes:
		return ""
	case s.StopAfter == Infinity:
		return "it is frozen then, and thawed for the next client; it is never stopped"
	}
	return "it is frozen then, and thawed for the next client; when nobody has come for " + s.StopAfter.String() + " it is stopped"
}

// explainIdle leaves the rest to Sleep=.
func (s *Spec) explainIdle() string {
	return cmp.Or(when(s.Freezes, "sleeps %s after the last connection", s.IdleTimeout), s.Stops())
}
