package generator

import (
	"strings"
	"time"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
)

// startupInterval is how often a container that starts is asked whether it is
// healthy. Podman has a timer of systemd's ask, a second later at times
// (AccuracySec=), whose service may start five times in 10 s. So an app that takes
// some seconds is found soonest with 1 s; of one that takes longer a client waits for
// up to 5 s more, where 2 s would make it 3 s (make bench BENCH=health; Podman 5.4).
const startupInterval = time.Second

// startupCheck has Podman look more often while a container with Notify=healthy
// starts: it looks at once and then after HealthInterval=, 30 s by default, and a
// wake would take that long. Podman puts off the regular check until the start-up
// check has passed (podman-run(1), --health-startup-cmd). What the file says itself
// of start-up checks remains as it is.
func startupCheck(f *quadlet.File) []convert.Setting {
	check, _ := f.Last("Container", "HealthCmd")
	if check.Value == "" || check.Value == "none" || !waitsForHealth(f) || asksAtStart(f) || !slower(f, startupInterval) {
		return nil
	}
	settings := []convert.Setting{
		{Key: "HealthStartupCmd", Value: check.Value},
		{Key: "HealthStartupInterval", Value: startupInterval.String()},
	}
	if timeout, ok := f.Last("Container", "HealthTimeout"); ok && timeout.Value != "" {
		settings = append(settings, convert.Setting{Key: "HealthStartupTimeout", Value: timeout.Value})
	}
	return settings
}

// waitsForHealth reports whether the container's start lasts until it is healthy.
func waitsForHealth(f *quadlet.File) bool {
	notify, _ := f.Last("Container", "Notify")
	return notify.Value == "healthy"
}

// asksAtStart reports whether a file says itself how it is checked while it starts,
// or may do so in options of Podman.
func asksAtStart(f *quadlet.File) bool {
	for _, e := range f.Entries {
		if e.Section != "Container" {
			continue
		}
		if strings.HasPrefix(e.Key, "HealthStartup") || e.Key == "PodmanArgs" && strings.Contains(e.Value, "health") {
			return true
		}
	}
	return false
}

// slower reports whether the regular check comes less often than that: an interval
// that Podman does not take, or that switches the check off, remains as it is.
func slower(f *quadlet.File, than time.Duration) bool {
	interval, ok := f.Last("Container", "HealthInterval")
	if !ok || interval.Value == "" {
		return true
	}
	d, err := time.ParseDuration(interval.Value) // as Podman does (pkg/specgenutil/specgen.go)
	return err == nil && d > than
}

// checkHealth tells of a wake that lasts as long as an image's own check likes.
func (e *Endpoint) checkHealth() {
	for _, f := range e.Files() {
		if declared(f, "Container", "HealthCmd") || !waitsForHealth(f) || asksAtStart(f) {
			continue
		}
		notify, _ := f.Last("Container", "Notify")
		e.Diagnostics.Notef(notify.Pos, "write the image's check as HealthCmd=: it is then asked once a second while the container starts",
			"a wake takes as long as HealthInterval=: without HealthCmd= only the image knows the check")
	}
}
