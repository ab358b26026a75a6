package generator

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
)

// With Notify=healthy a wake would take as long as HealthInterval=, 30 s by default:
// Podman asks when the container begins, and then after that. So a unit beside the
// container's asks more often while that starts (zerolet health). Podman's own timer
// would be a second late (AccuracySec=), and its service may start five times in 10 s.
//
// That must not count for HealthRetries=. What Podman is asked is the start-up check
// then, which comes before the regular one and counts for nothing
// (podman-run(1), --health-startup-cmd): it is the same command.

// startupCheck has the regular check be the start-up check, too. What the file says
// itself of that remains as it is.
func startupCheck(f *quadlet.File) []convert.Setting {
	check, _ := f.Last("Container", "HealthCmd")
	if check.Value == "" || !asksHealth(f) || declared(f, "Container", "HealthStartupCmd") {
		return nil
	}
	settings := []convert.Setting{{Key: "HealthStartupCmd", Value: check.Value}}
	for _, key := range []string{"Interval", "Timeout"} {
		if e, ok := f.Last("Container", "Health"+key); ok && e.Value != "" {
			settings = append(settings, convert.Setting{Key: "HealthStartup" + key, Value: e.Value})
		}
	}
	return settings
}

// asksHealth reports whether a container is asked more often while it starts. An image
// may have a check that only Podman knows: to ask that counts.
func asksHealth(f *quadlet.File) bool {
	check, _ := f.Last("Container", "HealthCmd")
	switch {
	case !waitsForHealth(f), check.Value == "none", saysHowOften(f), !hasInterval(f):
		return false
	case declared(f, "Container", "HealthCmd", "HealthStartupCmd"):
		return true
	}
	return !actsOnFailure(f)
}

// waitsForHealth reports whether the container's start lasts until it is healthy.
func waitsForHealth(f *quadlet.File) bool {
	notify, _ := f.Last("Container", "Notify")
	return notify.Value == "healthy"
}

// saysHowOften reports whether a file says itself how often it is asked while it
// starts, and what that counts for, or may do so in options of Podman.
func saysHowOften(f *quadlet.File) bool {
	if declared(f, "Container", "HealthStartupInterval", "HealthStartupRetries", "HealthStartupSuccess") {
		return true
	}
	return slices.ContainsFunc(f.All("Container", "PodmanArgs"), func(e quadlet.Entry) bool { return strings.Contains(e.Value, "health") })
}

// hasInterval reports whether there is a regular check. One that is switched off, or
// an interval that Podman does not take, remains as it is.
func hasInterval(f *quadlet.File) bool {
	interval, _ := f.Last("Container", "HealthInterval")
	d, err := time.ParseDuration(interval.Value) // as Podman does (pkg/specgenutil/specgen.go)
	return interval.Value == "" || err == nil && d > 0
}

// actsOnFailure reports whether Podman does something about a container whose checks
// fail.
func actsOnFailure(f *quadlet.File) bool {
	action, _ := f.Last("Container", "HealthOnFailure")
	return action.Value != "" && action.Value != "none"
}

// checkHealth tells of a wake that lasts as long as an image's own check likes.
func (e *Endpoint) checkHealth() {
	for _, f := range e.Files() {
		if declared(f, "Container", "HealthCmd", "HealthStartupCmd") || !waitsForHealth(f) || saysHowOften(f) || !hasInterval(f) || !actsOnFailure(f) {
			continue
		}
		notify, _ := f.Last("Container", "Notify")
		e.Diagnostics.Notef(notify.Pos, "write the image's check as HealthCmd=: it is then asked more often while the container starts",
			"a wake takes as long as HealthInterval=: of the image's own check each failure counts for HealthOnFailure=")
	}
}

// wantsHealth has somebody ask whenever the container starts.
func wantsHealth(u *Unit, f, service *quadlet.File) {
	if len(healthCommand(f, service)) > 0 {
		set(u, "Unit", "Wants", wire.Healthy.Of(f.Unit()))
	}
}

// healthUnits is the unit that does. It ends by itself, and there is no order between
// it and the container's. It has no sandbox: Podman has the check run in the container
// by a child of this unit, where it would lack what it has when Podman's own timer
// asks.
func healthUnits(f, service *quadlet.File, m quadlet.Manager, l Layout) []Unit {
	command := healthCommand(f, service)
	if len(command) == 0 {
		return nil
	}
	words := []string{"-" + word(dollars(literal(l.Zerolet))), "health", scope(m), "--", word(dollars(literal(f.Unit())))}
	s := section("Service",
		"Type", "exec",
		"ExecStart", strings.Join(append(words, command...), " "),
		"KillMode", "mixed", // what is left of a check is not waited for
		"TimeoutStopSec", "10")
	for _, entry := range service.Entries {
		if isEnvironment(entry) {
			add(s, entry.Key, inUnit(f, entry.Value))
		}
	}
	return []Unit{{
		Name: wire.Healthy.Of(f.Unit()), Priority: Normal, Source: f.Path,
		Sections: []*unit.UnitSection{about("Health of ", f, "StartLimitIntervalSec", "0"), s}, // every wake starts it
	}}
}

// healthCommand asks Podman, with the options and in the words in which the
// container's unit has it make the container: "$" and "%" mean the same.
func healthCommand(f, service *quadlet.File) []string {
	if service == nil || !asksHealth(f) {
		return nil
	}
	run, _ := service.Last("Service", "ExecStart")
	words := run.Arguments()
	verb := slices.Index(words, "run")
	if verb < 1 {
		return nil
	}
	name, waits := "", false // Quadlet 4.9.5 takes Notify=healthy for Notify=no
	for flag, value := range options([]quadlet.Entry{run}) {
		switch {
		case flag == "--name" && name == "":
			name = value
		case flag == "--sdnotify":
			waits = value == "healthy"
		}
	}
	if name == "" || !waits {
		return nil
	}
	var command []string
	for _, w := range append(slices.Clone(words[:verb]), "healthcheck", "run", name) {
		command = append(command, word(inUnit(f, w)))
	}
	return command
}

// isEnvironment reports whether Podman is told something by that.
func isEnvironment(e quadlet.Entry) bool {
	keys := []string{"Environment", "EnvironmentFile", "PassEnvironment", "UnsetEnvironment"}
	return e.Section == "Service" && slices.Contains(keys, e.Key) && e.Value != "PODMAN_SYSTEMD_UNIT=%n"
}

var specifier = regexp.MustCompile("%.")

// inUnit is a value of the container's unit for another one: the specifiers that are
// about a unit's own name are replaced (systemd.unit(5)).
func inUnit(f *quadlet.File, value string) string {
	return specifier.ReplaceAllStringFunc(value, func(s string) string {
		if text, ok := f.Specifier(s[1]); ok && len(s) == 2 {
			return literal(text)
		}
		return s
	})
}
