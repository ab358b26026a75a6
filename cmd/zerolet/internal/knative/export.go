package knative

import (
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Export is what becomes of one file. It is good for writing only where the
// diagnostics have no error. A warning tells what is lost or has to be done by
// hand, a note what is done in another way.
type Export struct {
	Diagnostics quadlet.Diagnostics

	service    service
	configMaps []configMap
	claims     []claim
}

// Name is the name of the Service, "" where there is none.
func (e Export) Name() string { return e.service.Metadata.Name }

// New exports one file, whose Spec has no error. Other Quadlet files that it
// names are read by unit.
func New(spec *scale.Spec, unit func(name string) (*quadlet.File, bool)) Export {
	x := exporter{spec: spec, file: spec.File, unit: unit}
	x.name()
	x.ports()
	x.idle()
	x.start()
	x.maxConnections()
	x.scaling()
	for _, k := range keys() {
		k.export(&x, k.name)
	}
	x.probes()
	x.otherSections()
	x.finish()
	return x.Export
}

// exporter fills in the objects key by key.
type exporter struct {
	Export

	spec *scale.Spec
	file *quadlet.File
	unit func(name string) (*quadlet.File, bool)

	container   container
	template    metadata
	volumes     []volume
	concurrency int64
	timeout     int64
	cleared     bool // Entrypoint= takes the image's own away
}

// The annotations and labels of Knative that are used.
const (
	minScale       = "autoscaling.knative.dev/min-scale"
	maxScale       = "autoscaling.knative.dev/max-scale"
	podRetention   = "autoscaling.knative.dev/scale-to-zero-pod-retention-period"
	progress       = "serving.knative.dev/progress-deadline"
	visibility     = "networking.knative.dev/visibility"
	clusterLocal   = "cluster-local"
	descriptionKey = "kubernetes.io/description"
)

// Limits of Knative Serving as it is installed (pkg/autoscaler/config/autoscalerconfig
// and pkg/apis/config/defaults.go, v0.48.0).
const (
	maxRetention   = time.Hour
	defaultTimeout = 300 // s
	maxTimeout     = 600
	maxConcurrency = 1000
)

// whole is the position of what stands on no line.
func (x *exporter) whole() quadlet.Pos { return quadlet.Pos{File: x.file.Path} }

// lost tells at an entry what is not exported.
func (x *exporter) lost(e quadlet.Entry, hint, format string, args ...any) {
	x.Diagnostics.Warnf(e.Pos, hint, format, args...)
}

func (x *exporter) name() {
	name := label(x.spec.Unit)
	pos, from := x.whole(), "the file's name"
	if e, ok := x.file.Last("Container", "ServiceName"); ok && e.Value != "" {
		pos, from = e.Pos, "ServiceName="
	}
	switch {
	case name == "":
		x.Diagnostics.Errorf(pos, "begin the name with a letter: rename the file, or set ServiceName=",
			"%s gives no name for a Knative Service: %q", from, x.spec.Unit)
	case name != x.spec.Unit:
		x.Diagnostics.Notef(pos, "a Service's name is a part of its address: small letters, digits and -, a letter first, at most 63",
			"the Service is called %s, not %s", name, x.spec.Unit)
	}
	x.service.Metadata.Name = name
}

// reservedPorts are those of Knative's own container in every pod
// (reservedPorts in pkg/apis/serving/k8s_validation.go).
func reservedPorts() []uint16 { return []uint16{8008, 8012, 8013, 8022, 9090, 9091} }

// ports takes the first port that can be served: a Service has one, for HTTP.
func (x *exporter) ports() {
	const onePort = "a Knative Service has one port: export a second file for it, or a Kubernetes Service"
	var served *scale.Listener
	local := true
	for i := range x.spec.Listen {
		l := &x.spec.Listen[i]
		switch {
		case l.ContainerPath != "":
			x.Diagnostics.Warnf(l.Pos, "let the app listen on a TCP port", "a unix socket has no equivalent in Knative: %s", l.Text)
		case l.Protocol != "tcp":
			x.Diagnostics.Warnf(l.Pos, "Knative serves HTTP only: a Kubernetes Deployment and Service take it",
				"%s has no equivalent in Knative: %s", l.Protocol, l.Text)
		case served != nil && l.ContainerPort != served.ContainerPort:
			x.Diagnostics.Warnf(l.Pos, onePort, "a second port is not exported: %s", l.Text)
		default:
			if served == nil {
				served = l
			}
			local = local && (l.HostPath != "" || l.HostNetwork != "" || l.Host.IsLoopback())
			x.address(*l)
		}
	}
	for _, p := range x.spec.Published {
		x.Diagnostics.Warnf(p.Pos, onePort, "a port that is not scaled is not exported: %s", p.Value)
	}
	switch {
	case x.spec.Dependency():
		x.Diagnostics.Errorf(x.whole(), "a Kubernetes Deployment and Service take it",
			"a container without a port, which runs while others need it, has no equivalent in Knative")
		return
	case served == nil:
		x.Diagnostics.Errorf(x.whole(), "publish the port on which the app serves HTTP", "no TCP port for Knative to serve")
		return
	}
	if slices.Contains(reservedPorts(), served.ContainerPort) {
		x.Diagnostics.Errorf(served.Pos, "let the app listen on another port inside the container",
			"port %d is one of those that Knative keeps for itself", served.ContainerPort)
	}
	x.container.Ports = []containerPort{{served.ContainerPort}}
	if local {
		set(&x.service.Metadata.Labels, visibility, clusterLocal)
		x.Diagnostics.Notef(served.Pos, "remove the label "+visibility+" to publish it",
			"it listens on this machine only, so the Service is reached from inside the cluster only")
		return
	}
	x.Diagnostics.Notef(served.Pos, "Knative gives the Service an address by name, at ports 80 and 443",
		"clients come by HTTP only, and no longer to %s", served.Text)
}

func (x *exporter) address(l scale.Listener) {
	if l.Host.IsValid() && !l.Host.IsUnspecified() && !l.Host.IsLoopback() {
		x.Diagnostics.Warnf(l.Pos, "the cluster's ingress decides on which addresses it listens",
			"the address %s is not exported", l.Host)
	}
}

// idle exports IdleTimeout=.
func (x *exporter) idle() {
	set(&x.template.Annotations, minScale, "0")
	d := x.spec.IdleTimeout.Duration()
	switch {
	case x.spec.IdleTimeout == scale.Infinity:
		x.template.Annotations[minScale] = "1"
		return
	case d > maxRetention:
		x.lost(x.scaleEntry("IdleTimeout"), `IdleTimeout=infinity gives min-scale: "1"`,
			"IdleTimeout: Knative keeps an idle pod for %s at most", scale.Span(maxRetention))
		d = maxRetention
	}
	x.template.Annotations[podRetention] = d.String()
}

// start exports StartTimeout= and what [Service] says of the container alone.
// A client is held by Knative for timeoutSeconds, which also ends the request:
// it is never less than Knative's own, 300 s.
func (x *exporter) start() {
	held := seconds(x.spec.StartTimeout)
	if held > maxTimeout {
		x.lost(x.scaleEntry("StartTimeout"), "raise max-revision-timeout-seconds in the ConfigMap config-defaults, then timeoutSeconds",
			"StartTimeout: Knative holds a request for %ds at most", maxTimeout)
	}
	x.timeout = min(max(held, defaultTimeout), maxTimeout)

	deadline := x.spec.StartTimeout
	if e, ok := x.file.Last("Service", "TimeoutStartSec"); ok {
		switch span, err := scale.ParseSpan(e.Value); {
		case err != nil:
			x.lost(e, "", "TimeoutStartSec: %v", err)
		case span == 0: // no limit (systemd.service(5))
			deadline = scale.Infinity
		default:
			deadline = span
		}
	}
	if deadline != scale.Infinity { // else it is the cluster's
		set(&x.template.Annotations, progress, (time.Duration(max(seconds(deadline), 1)) * time.Second).String())
	}
}

// seconds is a time span in seconds, rounded up as Knative and Kubernetes take
// no less than whole ones here.
func seconds(span scale.Span) int64 {
	d := span.Duration()
	whole := d / time.Second
	if whole*time.Second < d {
		whole++
	}
	return int64(whole)
}

// scaleEntry is the assignment of a key of [ScaleToZero] that is in effect.
func (x *exporter) scaleEntry(key string) quadlet.Entry {
	if e, set := x.spec.Setting(key); set {
		return e
	}
	return quadlet.Entry{Key: key, Pos: x.whole()}
}

// finish puts the parts into the Service.
func (x *exporter) finish() {
	s := &x.service
	s.APIVersion, s.Kind = "serving.knative.dev/v1", "Service"
	if c := &x.container.SecurityContext; c.SeccompProfile == nil {
		c.SeccompProfile = &seccompProfile{"RuntimeDefault"} // as Podman; Kubernetes has none by default
	}
	// What is mounted inside of another mount comes after it.
	slices.SortFunc(x.container.VolumeMounts, func(a, b volumeMount) int { return strings.Compare(a.MountPath, b.MountPath) })
	s.Spec.Template.Metadata = x.template
	s.Spec.Template.Spec = revisionSpec{
		ContainerConcurrency: x.concurrency,
		TimeoutSeconds:       x.timeout,
		Containers:           []container{x.container},
		Volumes:              x.volumes,
	}
	if x.container.Image == "" && !x.Diagnostics.HasErrors() {
		x.Diagnostics.Errorf(x.whole(), "add Image= to [Container]", "no image")
	}
	x.Diagnostics.Sort()
}

func set(m *map[string]string, key, value string) {
	if *m == nil {
		*m = make(map[string]string)
	}
	(*m)[key] = value
}
