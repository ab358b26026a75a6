package knative

import (
	"encoding/csv"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// claimSize is what is claimed for a volume. A podman volume has no size.
const claimSize = "1Gi"

// readOnly exports ReadOnly=. Podman then puts a tmpfs over what is usually
// written to (readOnlyTmpfs).
func (x *exporter) readOnly(quadlet.Entry) { x.container.SecurityContext.ReadOnlyRootFilesystem = true }

// readOnlyTmpfs gives a read-only container what Podman gives it, unless
// ReadOnlyTmpfs=no: podman-run(1), --read-only-tmpfs. A pod has /dev and
// /dev/shm anyway.
func (x *exporter) readOnlyTmpfs(name string) {
	e, ok := x.file.Last("Container", "ReadOnly")
	if !ok || !isTrue(e) {
		return
	}
	if no, ok := x.file.Last("Container", name); ok && no.Value != "" && !isTrue(no) {
		return
	}
	for _, dir := range []string{"/run", "/tmp", "/var/tmp"} {
		if !x.mounted(dir) {
			x.memoryDir(e, dir, "")
		}
	}
}

// memoryDir mounts an empty directory in memory.
func (x *exporter) memoryDir(e quadlet.Entry, dir, size string) {
	x.addMount(e, volume{Name: label(strings.Trim(dir, "/")), EmptyDir: &emptyDir{"Memory", size}}, volumeMount{MountPath: dir})
}

// addMount mounts a volume, under a name of its own unless it is there
// already.
func (x *exporter) addMount(e quadlet.Entry, v volume, m volumeMount) {
	m.MountPath = path.Clean(m.MountPath)
	switch {
	case x.mounted(m.MountPath):
		x.lost(e, "remove one of the two, podman refuses both", "there is something mounted at %s already", m.MountPath)
		return
	case !path.IsAbs(m.MountPath) || strings.ContainsRune(m.MountPath, ':'):
		x.lost(e, "write an absolute path", "nothing can be mounted at %q", m.MountPath)
		return
	case slices.Contains([]string{"/", "/dev", "/dev/log"}, m.MountPath): // reservedPaths in Knative's k8s_validation.go
		x.lost(e, "mount it elsewhere", "Knative lets nothing be mounted at %s", m.MountPath)
		return
	}
	same := func(o volume) bool { v.Name = o.Name; return reflect.DeepEqual(o, v) }
	want := v.Name
	if i := slices.IndexFunc(x.volumes, same); i < 0 || v.EmptyDir != nil {
		v.Name = unique(label(want), func(name string) bool {
			return slices.ContainsFunc(x.volumes, func(o volume) bool { return o.Name == name })
		})
		x.volumes = append(x.volumes, v)
	} else {
		v.Name = x.volumes[i].Name
	}
	m.Name = v.Name
	x.container.VolumeMounts = append(x.container.VolumeMounts, m)
}

func (x *exporter) mounted(dir string) bool {
	return slices.ContainsFunc(x.container.VolumeMounts, func(m volumeMount) bool { return m.MountPath == dir })
}

// volume exports Volume=[SOURCE:]PATH[:OPTIONS].
func (x *exporter) volume(e quadlet.Entry) {
	parts := strings.SplitN(e.Value, ":", 3)
	source, dir, options := "", parts[0], ""
	if len(parts) > 1 {
		source, dir = parts[0], parts[1]
	}
	if len(parts) > 2 {
		options = parts[2]
	}
	x.storage(e, source, x.argument(e, dir), strings.Split(options, ","))
}

// storage exports a volume whose source is as it was written: one without a name lives as long as the container,
// one with a name is claimed, a path of this machine is told.
func (x *exporter) storage(e quadlet.Entry, source, dir string, options []string) {
	if strings.HasPrefix(source, "/") || strings.HasPrefix(source, ".") || strings.HasPrefix(source, "%") {
		x.lost(e, "put the files into the image, a ConfigMap (kubectl create configmap NAME --from-file="+source+") or a volume",
			"%s is a path of this machine: nothing is mounted at %s", source, dir)
		return
	}
	readOnly, subPath := false, ""
	for _, option := range options {
		name, value, ok := strings.Cut(option, "=")
		switch name {
		case "ro", "readonly":
			readOnly = !ok || strings.EqualFold(value, "true")
		case "rw":
			readOnly = ok && strings.EqualFold(value, "false")
		case "", "z", "Z", "relabel", "exec", "dev", "suid", "copy", "rprivate", "private": // what a pod's volumes are, or the cluster does itself
		case "subpath", "volume-subpath":
			subPath = value
		default:
			x.lost(e, "a pod's volumes have no such option", "%s: the option %s is not exported", e.Key, option)
		}
	}
	if source == "" {
		x.addMount(e, volume{Name: label(strings.Trim(dir, "/")), EmptyDir: &emptyDir{}}, volumeMount{MountPath: dir, ReadOnly: readOnly})
		return
	}
	name := label(strings.TrimSuffix(x.argument(e, source), ".volume"))
	if name == "" {
		x.lost(e, "rename the volume: a letter first, then letters, digits and -", "a PersistentVolumeClaim cannot be called %q: nothing is mounted at %s", source, dir)
		return
	}
	before := len(x.container.VolumeMounts)
	x.addMount(e, volume{Name: name, PersistentVolumeClaim: &claimVolume{name, readOnly}},
		volumeMount{MountPath: dir, SubPath: strings.Trim(subPath, "/"), ReadOnly: readOnly})
	if len(x.container.VolumeMounts) > before {
		x.claim(e, name, readOnly)
	}
}

// claim makes the claim of a volume. Only one pod gets to write to it.
func (x *exporter) claim(e quadlet.Entry, name string, readOnly bool) {
	features := "the feature kubernetes.podspec-persistent-volume-claim"
	if !readOnly {
		features = "the features kubernetes.podspec-persistent-volume-claim and kubernetes.podspec-persistent-volume-write"
		if x.template.Annotations[maxScale] == "" {
			set(&x.template.Annotations, maxScale, "1")
			x.Diagnostics.Notef(e.Pos, "remove "+maxScale+" if several copies of the app can share its data", "one pod at most, since it writes to a volume")
		}
	}
	x.lost(e, "enable it in the ConfigMap config-features, set the size of the claim, and copy the data",
		"%s: the PersistentVolumeClaim %s of %s is empty, and Knative takes it only with %s", e.Key, name, claimSize, features)
	if slices.ContainsFunc(x.claims, func(c claim) bool { return c.Metadata.Name == name }) {
		return
	}
	x.claims = append(x.claims, claim{"v1", "PersistentVolumeClaim", metadata{Name: name}, claimSpec{
		AccessModes: []string{"ReadWriteOnce"},
		Resources:   resources{Requests: map[string]string{"storage": claimSize}},
	}})
}

// mount exports Mount=type=TYPE,OPTION[,...] (podman-run(1), --mount).
func (x *exporter) mount(e quadlet.Entry) {
	for _, word := range x.arguments(e) {
		x.oneMount(e, word)
	}
}

func (x *exporter) oneMount(e quadlet.Entry, word string) {
	fields, err := csv.NewReader(strings.NewReader(word)).Read()
	if err != nil {
		x.lost(e, "", "Mount: %q cannot be read: %v", word, err)
		return
	}
	kind, source, dir, options := "volume", "", "", []string(nil)
	for _, field := range fields {
		option, value, _ := strings.Cut(field, "=")
		switch option {
		case "type":
			kind = value
		case "source", "src":
			source = value
		case "target", "dst", "dest", "destination":
			dir = value
		default:
			options = append(options, field)
		}
	}
	switch kind {
	case "volume", "bind":
		if kind == "bind" && !strings.HasPrefix(source, "/") {
			source = "./" + source
		}
		x.storage(e, source, dir, options)
	case "tmpfs", "ramfs":
		x.memoryMount(e, dir, options)
	default:
		x.lost(e, "put the files into the image, or into a volume", "a mount of the type %s is not exported: nothing is mounted at %s", kind, dir)
	}
}

// tmpfs exports Tmpfs=PATH[:OPTIONS].
func (x *exporter) tmpfs(e quadlet.Entry) {
	dir, options, _ := strings.Cut(x.argument(e, e.Value), ":")
	x.memoryMount(e, dir, strings.Split(options, ","))
}

func (x *exporter) memoryMount(e quadlet.Entry, dir string, options []string) {
	size := ""
	for _, option := range options {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "size", "tmpfs-size":
			size, _ = x.size(e, value)
		case "", "rw", "exec", "dev", "suid", "notmpcopyup": // what it is in a pod
		case "nodev", "nosuid", "noswap", "mode", "tmpfs-mode":
			x.Diagnostics.Notef(e.Pos, "", "%s: the option %s is not exported, every user may write to it", e.Key, option)
		default:
			x.lost(e, "a pod's volumes have no such option", "%s: the option %s is not exported", e.Key, option)
		}
	}
	x.memoryDir(e, dir, size)
}

// volatileTmp exports VolatileTmp=, as Quadlet spells it for podman. A
// read-only container has /tmp anyway.
func (x *exporter) volatileTmp(e quadlet.Entry) {
	if !x.container.SecurityContext.ReadOnlyRootFilesystem && !x.mounted("/tmp") {
		x.memoryDir(e, "/tmp", "512Mi")
	}
}

func (x *exporter) shmSize(e quadlet.Entry) {
	if size, ok := x.size(e, x.value(e)); ok {
		x.memoryDir(e, "/dev/shm", size)
	}
}
