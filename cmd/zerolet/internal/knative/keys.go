package knative

import (
	"strings"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// key is a key of [Container] and what becomes of it.
type key struct {
	name   string
	export func(x *exporter, name string)
}

// each exports every entry that is in effect of a key that is a list.
func each(export func(*exporter, quadlet.Entry)) func(*exporter, string) {
	return func(x *exporter, name string) {
		for _, e := range x.file.All("Container", name) {
			export(x, e)
		}
	}
}

// last exports the entry of a single-valued key that is in effect.
func last(export func(*exporter, quadlet.Entry)) func(*exporter, string) {
	return func(x *exporter, name string) {
		if e, ok := x.file.Last("Container", name); ok && e.Value != "" {
			export(x, e)
		}
	}
}

// when exports a boolean that is true.
func when(export func(*exporter, quadlet.Entry)) func(*exporter, string) {
	return last(func(x *exporter, e quadlet.Entry) {
		if isTrue(e) {
			export(x, e)
		}
	})
}

// isTrue is what Quadlet takes for true (LookupBoolean in Podman's
// pkg/systemd/parser/unitfile.go).
func isTrue(e quadlet.Entry) bool {
	switch strings.ToLower(text(e)) {
	case "1", "yes", "true", "on":
		return true
	}
	return false
}

// lost tells of a key that has no equivalent, and what to do instead.
func lost(hint string) func(*exporter, quadlet.Entry) {
	return func(x *exporter, e quadlet.Entry) {
		x.lost(e, hint, "%s= has no equivalent in Knative", e.Key)
	}
}

// other tells of a key with which nothing is lost.
func other(how string) func(*exporter, quadlet.Entry) {
	return func(x *exporter, e quadlet.Entry) {
		x.Diagnostics.Notef(e.Pos, "", "%s= is not exported: %s", e.Key, how)
	}
}

func elsewhere(*exporter, string) {}

const (
	mapping  = "user namespaces are the cluster's: files on its volumes belong to the ids of the container"
	dns      = "the cluster's DNS answers; where it has the feature kubernetes.podspec-dnsconfig, write dnsConfig"
	labels   = "SELinux labels are the cluster's"
	address  = "a pod gets an address of its own each time: clients use the Service's name"
	sidecar  = "write both containers into one Service by hand"
	masks    = "the cluster's runtime masks paths of its own"
	podmanIt = "it is how podman itself runs"
)

// keys are the keys of [Container] in Podman 6.0.0 (groupsInfo in
// pkg/systemd/quadlet/quadlet.go), in an order in which they can be exported.
func keys() []key {
	return []key{
		{"Image", last((*exporter).image)},
		{"Rootfs", last((*exporter).rootfs)},
		{"Pull", last((*exporter).pull)},

		// The command.
		{"Entrypoint", (*exporter).setEntrypoint},
		{"Exec", last((*exporter).exec)},
		{"WorkingDir", last((*exporter).workingDir)},

		// The environment.
		{"EnvironmentFile", each((*exporter).environmentFile)},
		{"Environment", each((*exporter).environment)},
		{"EnvironmentHost", when(lost("name what the app needs with Environment="))},
		{"HttpProxy", when(lost("name the proxy with Environment=HTTP_PROXY=..."))},
		{"Timezone", last(lost("set Environment=TZ=, where the image has the zones"))},
		{"Secret", each((*exporter).secret)},

		// The process.
		{"User", last((*exporter).user)},
		{"Group", last((*exporter).group)},
		{"GroupAdd", each(lost("where the cluster has the feature kubernetes.podspec-securitycontext, write supplementalGroups"))},
		{"NoNewPrivileges", when((*exporter).noNewPrivileges)},
		{"SeccompProfile", last((*exporter).seccomp)},
		{"DropCapability", (*exporter).dropCapability},
		{"AddCapability", (*exporter).addCapability},
		{"ReadOnly", when((*exporter).readOnly)},
		{"RunInit", when(lost("let the image have an init, such as tini, as its entrypoint"))},
		{"Memory", last((*exporter).memory)},
		{"PidsLimit", last(lost("the limit is the cluster's (podPidsLimit of the kubelet)"))},
		{"Ulimit", each(lost("limits are those of the cluster's container runtime"))},
		{"Sysctl", each(lost("a sysctl of a pod needs a Kubernetes Deployment"))},
		{"StopSignal", last(lost("build the image with STOPSIGNAL"))},
		{"StopTimeout", last(lost("a pod that is stopped gets timeoutSeconds of the Service"))},
		{"AddDevice", each(lost("devices come from a plugin of the cluster, as resources"))},
		{"AppArmor", last(lost("the profile is the cluster's"))},
		{"SecurityLabelDisable", when(lost(labels))},
		{"SecurityLabelFileType", last(lost(labels))},
		{"SecurityLabelLevel", last(lost(labels))},
		{"SecurityLabelNested", when(lost(labels))},
		{"SecurityLabelType", last(lost(labels))},
		{"Mask", each(lost(masks))},
		{"Unmask", each(lost(masks))},
		{"UserNS", last(lost(mapping))},
		{"UIDMap", each(lost(mapping))},
		{"GIDMap", each(lost(mapping))},
		{"SubUIDMap", last(lost(mapping))},
		{"SubGIDMap", last(lost(mapping))},
		{"RemapUsers", last(lost(mapping))},
		{"RemapUid", each(lost(mapping))},
		{"RemapGid", each(lost(mapping))},
		{"RemapUidSize", last(lost(mapping))},

		// Storage.
		{"Volume", each((*exporter).volume)},
		{"Mount", each((*exporter).mount)},
		{"Tmpfs", each((*exporter).tmpfs)},
		{"ShmSize", last((*exporter).shmSize)},
		{"VolatileTmp", when((*exporter).volatileTmp)},
		{"ReadOnlyTmpfs", (*exporter).readOnlyTmpfs},

		// The network.
		{"PublishPort", elsewhere}, // ports
		{"ExposeHostPort", each(other("Podman does not publish it either"))},
		{"Network", each((*exporter).network)},
		{"NetworkAlias", each(lost(address))},
		{"IP", last(lost(address))},
		{"IP6", last(lost(address))},
		{"HostName", last(lost("a pod's host name is its own; where the app needs it, give it by Environment="))},
		{"AddHost", each(lost("where the cluster has the feature kubernetes.podspec-hostaliases, write hostAliases"))},
		{"DNS", each(lost(dns))},
		{"DNSOption", each(lost(dns))},
		{"DNSSearch", each(lost(dns))},

		// Health: probes.
		{"HealthCmd", elsewhere},
		{"HealthInterval", elsewhere},
		{"HealthOnFailure", elsewhere},
		{"HealthRetries", elsewhere},
		{"HealthStartPeriod", elsewhere},
		{"HealthTimeout", elsewhere},
		{"HealthStartupCmd", elsewhere},
		{"HealthStartupInterval", elsewhere},
		{"HealthStartupRetries", elsewhere},
		{"HealthStartupSuccess", elsewhere},
		{"HealthStartupTimeout", elsewhere},
		{"HealthLogDestination", last(other("Kubernetes tells of failed probes in the pod's events"))},
		{"HealthMaxLogCount", last(other("Kubernetes tells of failed probes in the pod's events"))},
		{"HealthMaxLogSize", last(other("Kubernetes tells of failed probes in the pod's events"))},
		{"Notify", last((*exporter).notify)},

		// About the container.
		{"Label", each((*exporter).label)},
		{"Annotation", each((*exporter).annotation)},
		{"ServiceName", elsewhere}, // name
		{"ContainerName", last(other("pods have names of their own, clients use the Service's"))},
		{"AutoUpdate", last(lost("deploy a new revision for a new image: a Service keeps the digest that it was deployed with"))},
		{"ReloadCmd", last(lost("deploy a new revision for a new configuration"))},
		{"ReloadSignal", last(lost("deploy a new revision for a new configuration"))},
		{"LogDriver", last(other("the cluster keeps the logs"))},
		{"LogOpt", each(other("the cluster keeps the logs"))},
		{"CgroupsMode", last(other(podmanIt))},
		{"ContainersConfModule", each(lost("write what it sets into [Container]"))},
		{"GlobalArgs", each(other(podmanIt))},
		{"Retry", last(other("the cluster pulls again until it has the image"))},
		{"RetryDelay", last(other("the cluster pulls again until it has the image"))},
		{"Pod", last(lost(sidecar))},
		{"StartWithPod", last(lost(sidecar))},
		{"PodmanArgs", each((*exporter).podmanArgs)},
	}
}

// otherSections tells of every assignment that no key was there for.
func (x *exporter) otherSections() {
	known := make(map[string]bool)
	for _, k := range keys() {
		known[k.name] = true
	}
	for _, e := range x.file.Entries {
		switch {
		case e.Value == "":
		case e.Section == "Container" && !known[e.Key]:
			x.lost(e, "write it into the Service by hand", "%s= is not a key of Podman 6.0: it is not exported", e.Key)
		case e.Section == "Service":
			x.serviceKey(e)
		case e.Section == "Unit":
			x.unitKey(e)
		}
	}
	for _, s := range x.file.Sections {
		switch {
		case s.Name == "Container" || s.Name == "Unit" || s.Name == "Service" || scale.IsSection(s.Name):
		case strings.HasPrefix(s.Name, "X-"): // systemd.unit(5): ignored
		case s.Name == "Install": // when the socket listens: the ingress always does
		case s.Name == "Quadlet":
		default:
			x.Diagnostics.Warnf(s.Pos, "write it into the Service by hand", "[%s] is not exported", s.Name)
		}
	}
}

// scaling tells what becomes of the keys of [ScaleToZero]. What says no more
// than the default is no loss.
func (x *exporter) scaling() {
	for _, k := range scale.Keys() {
		e, set := x.spec.Setting(k.Name)
		switch {
		case !set, e.Value == k.Default:
		case k.Export.As != nil: // ports, start, idle, probes, maxConnections
		case k.Export.Note != "":
			x.Diagnostics.Notef(e.Pos, "", "%s= is not exported: %s", k.Name, k.Export.Note)
		default:
			x.lost(e, k.Export.Lost, "%s= has no equivalent in Knative", k.Name)
		}
	}
}

// serviceKey tells of the keys of [Service] that are not exported.
func (x *exporter) serviceKey(e quadlet.Entry) {
	switch e.Key {
	case "Restart", "RestartSec", "RestartSteps", "RestartMaxDelaySec", // a pod is always started again
		"StartLimitIntervalSec", "StartLimitBurst",
		"Type", "NotifyAccess", "KillMode", "Delegate", "SyslogIdentifier", // of podman
		"TimeoutStartSec": // start
	case "TimeoutStopSec", "TimeoutSec":
		x.lost(e, "a pod that is stopped gets timeoutSeconds of the Service", "%s= has no equivalent in Knative", e.Key)
	case "MemoryMax", "MemoryHigh", "MemoryLow", "MemoryMin":
		x.lost(e, "write Memory= in [Container]", "%s= of [Service] is not exported", e.Key)
	case "CPUQuota", "CPUWeight", "AllowedCPUs":
		x.lost(e, "write PodmanArgs=--cpus= in [Container]", "%s= of [Service] is not exported", e.Key)
	default:
		x.lost(e, "it is about podman on this machine; what the app needs of it belongs into the image", "%s= of [Service] is not exported", e.Key)
	}
}

// unitKey exports the description and tells of dependencies: Kubernetes starts
// in no order.
func (x *exporter) unitKey(e quadlet.Entry) {
	switch e.Key {
	case "Description":
		set(&x.service.Metadata.Annotations, descriptionKey, e.Value)
	case "Documentation", "StartLimitIntervalSec", "StartLimitBurst":
	case "After", "Before", "Wants", "Requires":
		for _, word := range e.Words() {
			if !strings.HasSuffix(word, ".target") {
				x.lost(e, "let the app wait and try again: nothing is started in order", "%s=%s is not exported", e.Key, word)
			}
		}
	default:
		x.lost(e, "it is about systemd on this machine", "%s= of [Unit] is not exported", e.Key)
	}
}
