package knative

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Podman's defaults (libpod/define/healthchecks.go). Kubernetes has others.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 30 * time.Second
	healthRetries  = 3
)

// probes exports ReadyCheck= and the keys that begin with Health. What tells
// that the app is ready is the readiness probe; what restarts it in Podman is
// the liveness probe.
func (x *exporter) probes() {
	ready := x.readyCheck()
	check := x.healthCheck("HealthCmd", "Health")
	if check == nil {
		x.container.ReadinessProbe = ready
		x.healthInVain("HealthInterval", "HealthOnFailure", "HealthRetries", "HealthStartPeriod", "HealthTimeout")
	} else {
		x.container.ReadinessProbe = cmp.Or(ready, check)
		x.liveness(*check, ready != nil)
	}
	startup := x.healthCheck("HealthStartupCmd", "HealthStartup")
	if startup == nil {
		x.healthInVain("HealthStartupInterval", "HealthStartupRetries", "HealthStartupSuccess", "HealthStartupTimeout")
		return
	}
	x.startup(startup)
}

// readyCheck exports ReadyCheck=. That the port is open is what Knative looks
// at itself.
func (x *exporter) readyCheck() *probe {
	e := x.scaleEntry("ReadyCheck")
	if path, ok := strings.CutPrefix(e.Value, "http:"); ok {
		return &probe{HTTPGet: &httpGet{path}}
	}
	if e.Value == "none" {
		x.lost(e, "", "ReadyCheck=none: Knative waits until the port is open")
	}
	return nil
}

// healthCheck makes the probe of a command and the keys beside it, which begin
// with the prefix.
func (x *exporter) healthCheck(key, prefix string) *probe {
	e, ok := x.file.Last("Container", key)
	if !ok || e.Value == "" {
		return nil
	}
	command := healthCommand(x.value(e))
	if command == nil {
		return nil // none
	}
	interval, ok := x.healthDuration(prefix+"Interval", healthInterval)
	if !ok {
		x.lost(e, "set "+prefix+"Interval=", "%s= is not exported: Kubernetes has no probe without an interval", key)
		return nil
	}
	if seconds(interval) > 10 {
		x.Diagnostics.Notef(e.Pos, "set a shorter "+prefix+"Interval=", "%s is between two checks: a cold start may wait for as long", interval)
	}
	timeout, _ := x.healthDuration(prefix+"Timeout", healthTimeout)
	return &probe{
		Exec:             &execAction{literals(command)},
		PeriodSeconds:    max(seconds(interval), 1),
		TimeoutSeconds:   max(seconds(timeout), 1),
		FailureThreshold: x.healthNumber(prefix+"Retries", healthRetries),
	}
}

// healthCommand follows MakeHealthCheckFromCli in Podman's
// pkg/specgenutil/specgen.go and libpod/healthcheck.go: a list is a command,
// anything else is for the shell. Without a check it is nil.
func healthCommand(text string) []string {
	shell := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	words, isList := list(text)
	if !isList {
		words = strings.SplitN(text, " ", 2)
	}
	switch first := strings.ToUpper(strings.Join(words[:min(len(words), 1)], "")); {
	case len(words) == 0 || first == "NONE":
		return nil
	case first == "CMD" && isList:
		return words[1:]
	case first == "CMD":
		return strings.Fields(text)[1:]
	case first == "CMD-SHELL":
		return shell(strings.Join(words[1:], " "))
	case isList && len(words) > 1:
		return words
	case isList:
		return shell(words[0])
	}
	return shell(text)
}

// liveness exports what Podman does with a container that is not healthy. The
// readiness probe is taken where ReadyCheck= has one.
func (x *exporter) liveness(check probe, ready bool) {
	e, _ := x.file.Last("Container", "HealthOnFailure")
	period, hasPeriod := x.healthDuration("HealthStartPeriod", 0)
	switch action := x.value(e); action {
	case "kill", "restart", "stop":
		if hasPeriod {
			check.InitialDelaySeconds = seconds(period)
		}
		x.container.LivenessProbe = &check
		return
	case "", "none":
	default:
		x.lost(e, "write none, kill, restart or stop", "HealthOnFailure=%s is not exported", action)
	}
	if cmd, _ := x.file.Last("Container", "HealthCmd"); ready {
		x.lost(cmd, "with HealthOnFailure=kill it is the liveness probe", "HealthCmd= is not exported: ReadyCheck= is the readiness probe")
	}
	if start, ok := x.file.Last("Container", "HealthStartPeriod"); ok && start.Value != "" {
		x.Diagnostics.Notef(start.Pos, "", "HealthStartPeriod= is not exported: failures do no harm until the app is ready")
	}
}

// startup exports the checks of the start. Podman tries for ever unless told
// otherwise, Kubernetes as long as StartTimeout= lasts.
func (x *exporter) startup(check *probe) {
	if x.healthNumber("HealthStartupRetries", 0) == 0 {
		check.FailureThreshold = max(min(seconds(x.spec.StartTimeout), maxTimeout)/check.PeriodSeconds, 1)
	}
	if e, ok := x.file.Last("Container", "HealthStartupSuccess"); ok && x.value(e) != "1" {
		x.lost(e, "", "HealthStartupSuccess=%s is not exported: one success is enough for Kubernetes", x.value(e))
	}
	x.container.StartupProbe = check
}

// healthInVain tells of keys that do nothing without their command.
func (x *exporter) healthInVain(keys ...string) {
	for _, key := range keys {
		if e, ok := x.file.Last("Container", key); ok && e.Value != "" {
			x.lost(e, "it is about the check of the image, if there is one: write HealthCmd=, too", "%s= is not exported without a command", key)
		}
	}
}

// healthDuration reads a duration of Go, as podman does. It is false where
// there is none: "disable", or 0.
func (x *exporter) healthDuration(key string, otherwise time.Duration) (scale.Span, bool) {
	e, ok := x.file.Last("Container", key)
	if !ok || e.Value == "" {
		return scale.Span(otherwise), otherwise > 0
	}
	value := x.value(e)
	if value == "disable" {
		return 0, false
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		x.lost(e, `write it like "30s" or "1m30s"`, "%s=%s is not exported: it is not a duration", key, value)
		return scale.Span(otherwise), otherwise > 0
	}
	return scale.Span(d), d > 0
}

func (x *exporter) healthNumber(key string, otherwise int64) int64 {
	e, ok := x.file.Last("Container", key)
	if !ok || e.Value == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(x.value(e), 10, 32)
	if err != nil || n < 1 {
		x.lost(e, "write a number", "%s=%s is not exported", key, x.value(e))
		return otherwise
	}
	return n
}

// notify exports Notify=healthy, which is what the readiness probe does.
func (x *exporter) notify(e quadlet.Entry) {
	switch health, ok := x.file.Last("Container", "HealthCmd"); {
	case strings.EqualFold(x.value(e), "healthy") && ok && health.Value != "":
	case strings.EqualFold(x.value(e), "healthy"):
		x.lost(e, "write HealthCmd=", "Notify=healthy is not exported: the check of the image is not known here")
	case isTrue(e):
		x.lost(e, "write HealthCmd=, or ReadyCheck= in [ScaleToZero]", "Notify= is not exported: Knative has no sd_notify")
	}
}

// maxConnections exports MaxConnections= as the requests that one pod gets at
// a time.
func (x *exporter) maxConnections() {
	n := x.spec.MaxConnections
	x.concurrency = min(n, maxConcurrency)
	switch e := x.scaleEntry("MaxConnections"); {
	case n == 0: // no limit
	case n > maxConcurrency:
		x.lost(e, "raise container-concurrency-max-limit in the ConfigMap config-defaults", "MaxConnections: Knative gives a pod at most %d requests at a time", maxConcurrency)
	default:
		x.Diagnostics.Notef(e.Pos, "", "MaxConnections= becomes requests at a time: what is above goes to a second pod")
	}
}

// network tells what a pod's network is not.
func (x *exporter) network(e quadlet.Entry) {
	mode, options, _ := strings.Cut(x.value(e), ":")
	switch {
	case slices.Contains([]string{"bridge", "pasta", "slirp4netns", "private"}, mode) && options == "":
	case mode == "host":
		x.lost(e, "let the app listen on one port and reach others by name", "the host's network has no equivalent in Knative")
	case mode == "none":
		x.lost(e, "a NetworkPolicy keeps a pod from the network", "Network=none has no equivalent in Knative: the pod reaches the network")
	default:
		x.lost(e, "export what it talks to as well, and give the app the names that it has in the cluster", "the network %s is not exported", mode)
	}
}
