package knative

import (
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// label exports Label= to the pod. Kubernetes takes short and plain values for
// labels; others become annotations.
func (x *exporter) label(e quadlet.Entry) {
	for _, word := range x.arguments(e) {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case !x.metadataKey(e, key):
		case isLabelValue(value):
			set(&x.template.Labels, key, value)
		default:
			set(&x.template.Annotations, key, value)
			x.Diagnostics.Notef(e.Pos, "", "the label %s becomes an annotation: a label has at most 63 letters, digits, -, _ and .", key)
		}
	}
}

// annotation exports Annotation= to the pod.
func (x *exporter) annotation(e quadlet.Entry) {
	for _, word := range x.arguments(e) {
		if key, value, _ := strings.Cut(word, "="); x.metadataKey(e, key) {
			set(&x.template.Annotations, key, value)
		}
	}
}

// metadataKey reports whether a pod can have a label or an annotation of this
// name. Those of the cluster are not the file's to set.
func (x *exporter) metadataKey(e quadlet.Entry, key string) bool {
	prefix, _, _ := strings.Cut(key, "/")
	switch {
	case strings.HasSuffix("."+prefix, ".knative.dev") || strings.HasSuffix("."+prefix, ".kubernetes.io") || strings.HasSuffix("."+prefix, ".k8s.io"):
		x.lost(e, "write it into the output by hand", "%s is the cluster's to read", key)
		return false
	case !isMetadataKey(key):
		x.lost(e, "use at most 63 letters, digits, -, _ and .", "Kubernetes takes no label or annotation of the name %q", key)
		return false
	}
	return true
}
