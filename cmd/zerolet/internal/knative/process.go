package knative

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// image exports Image=. The cluster pulls it: what is on this machine only has
// to be pushed.
func (x *exporter) image(e quadlet.Entry) {
	image := x.value(e)
	switch {
	case strings.HasSuffix(image, ".image"):
		image = x.imageOf(e, image, "Image", "Image")
	case strings.HasSuffix(image, ".build"):
		image = x.imageOf(e, image, "Build", "ImageTag")
	}
	if image == "" {
		return
	}
	image = strings.TrimPrefix(image, "docker://")
	first, _, path := strings.Cut(image, "/")
	switch {
	case !isImage(image):
		x.Diagnostics.Errorf(e.Pos, "name it like registry.example.com/app:1", "%q is not an image that a cluster can pull", image)
	case path && first == "localhost":
		x.lost(e, "push it to a registry that the cluster reaches, and name that", "%s is on this machine only", image)
	case !path || !strings.ContainsAny(first, ".:"):
		x.lost(e, "write the registry: docker.io/library/nginx", "%s has no registry: Podman looks where this machine says, a cluster at docker.io", image)
	}
	x.container.Image = image
}

// imageOf is the image of an .image or .build file.
func (x *exporter) imageOf(e quadlet.Entry, name, section, key string) string {
	f, ok := x.unit(name)
	if !ok {
		x.Diagnostics.Errorf(e.Pos, "write that file, or name the image itself", "there is no %s", name)
		return ""
	}
	image, ok := f.Last(section, key)
	if !ok || image.Value == "" {
		x.Diagnostics.Errorf(e.Pos, "name the image itself", "%s has no %s=", name, key)
		return ""
	}
	for _, other := range f.Entries {
		if other.Section == section && other.Key != key && other.Value != "" {
			x.Diagnostics.Notef(other.Pos, "", "%s= of %s is not exported: the cluster pulls the image as it is", other.Key, name)
		}
	}
	return x.value(image)
}

func (x *exporter) rootfs(e quadlet.Entry) {
	x.Diagnostics.Errorf(e.Pos, "make an image of it, and write Image=", "Rootfs= has no equivalent in Knative")
}

// pull exports the policies that Kubernetes has.
func (x *exporter) pull(e quadlet.Entry) {
	switch policy := x.value(e); policy {
	case "always":
		x.container.ImagePullPolicy = "Always"
	case "missing":
		x.container.ImagePullPolicy = "IfNotPresent"
	case "never":
		x.container.ImagePullPolicy = "Never"
	case "newer":
		x.container.ImagePullPolicy = "Always"
	default:
		x.lost(e, "write always, missing, never or newer", "Pull=%s is not exported", policy)
	}
}

// setEntrypoint exports Entrypoint=, which may also be empty: then the image's
// own is cleared (podman run --entrypoint "").
func (x *exporter) setEntrypoint(name string) {
	e, ok := x.file.Last("Container", name)
	if !ok {
		return
	}
	value := x.value(e)
	words, isList := list(value)
	switch {
	case isList:
	case value == "":
		x.cleared = true
		if exec, ok := x.file.Last("Container", "Exec"); !ok || exec.Value == "" {
			x.lost(e, "write the command in Exec=", "an empty Entrypoint= without Exec= has no equivalent in Knative")
		}
		return
	default:
		words = []string{value}
	}
	x.container.Command = literals(words)
}

// exec exports Exec=: the arguments of the entrypoint, or the command where
// there is none.
func (x *exporter) exec(e quadlet.Entry) {
	args := literals(x.arguments(e))
	if x.cleared {
		x.container.Command = args
		return
	}
	x.container.Args = args
}

func (x *exporter) workingDir(e quadlet.Entry) { x.container.WorkingDir = x.value(e) }

// user exports User= where it is numbers. Kubernetes does not look into the
// image for a name.
func (x *exporter) user(e quadlet.Entry) {
	user, group, both := strings.Cut(x.value(e), ":")
	x.container.SecurityContext.RunAsUser = x.id(e, user)
	if both {
		x.setGroup(e, group)
	}
}

func (x *exporter) group(e quadlet.Entry) {
	if user, ok := x.file.Last("Container", "User"); !ok || user.Value == "" {
		x.Diagnostics.Errorf(e.Pos, "set User= too", "Group= without User= is refused by Quadlet")
	}
	x.setGroup(e, x.value(e))
}

// setGroup exports a group beside a user: Kubernetes starts none without.
func (x *exporter) setGroup(e quadlet.Entry, group string) {
	id := x.id(e, group)
	if x.container.SecurityContext.RunAsUser == nil {
		if id != nil {
			x.lost(e, "write the user's number", "the group %s is not exported without the user", group)
		}
		return
	}
	x.container.SecurityContext.RunAsGroup = id
}

func (x *exporter) id(e quadlet.Entry, text string) *int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt32 {
		x.lost(e, "write its number, as id(1) in the image tells", "%s=%s is not a number from 0 to %d: the image's own user is taken", e.Key, text, math.MaxInt32)
		return nil
	}
	return &n
}

func (x *exporter) noNewPrivileges(quadlet.Entry) {
	no := false
	x.container.SecurityContext.AllowPrivilegeEscalation = &no
}

// seccomp exports the profile, which is the runtime's own unless told
// otherwise (finish).
func (x *exporter) seccomp(e quadlet.Entry) {
	if profile := x.value(e); profile != "unconfined" {
		x.lost(e, "let the cluster's nodes have it, and write a seccompProfile of type Localhost",
			"SeccompProfile= names a file of this machine: the runtime's own profile is taken")
		return
	}
	x.container.SecurityContext.SeccompProfile = &seccompProfile{"Unconfined"}
}

// dropCapability exports DropCapability=. Without it, what a cluster's runtime
// gives a container and Podman does not is dropped: the capabilities that
// containerd has by default (oci.WithDefaultSpec) and
// containers.conf(5), default_capabilities, has not.
func (x *exporter) dropCapability(name string) {
	drop := x.capabilities(name)
	if !slices.Contains(drop, "ALL") {
		added := x.capabilities("AddCapability")
		for _, c := range []string{"AUDIT_WRITE", "MKNOD", "NET_RAW"} {
			if !slices.Contains(added, c) && !slices.Contains(added, "ALL") && !slices.Contains(drop, c) {
				drop = append(drop, c)
			}
		}
	}
	x.container.SecurityContext.Capabilities.Drop = drop
}

func (x *exporter) addCapability(name string) {
	add := x.capabilities(name)
	x.container.SecurityContext.Capabilities.Add = add
	if len(add) > 0 {
		x.lost(x.file.All("Container", name)[0], "enable it in the ConfigMap config-features",
			"AddCapability: Knative takes it only with the feature kubernetes.containerspec-addcapabilities")
	}
}

// capabilities are those of a key as Kubernetes writes them: without "CAP_".
func (x *exporter) capabilities(name string) []string {
	var out []string
	for _, e := range x.file.All("Container", name) {
		for _, word := range e.Words() {
			c := strings.TrimPrefix(strings.ToUpper(x.argument(e, word)), "CAP_")
			if !slices.Contains(out, c) {
				out = append(out, c)
			}
		}
	}
	return out
}

func (x *exporter) memory(e quadlet.Entry) {
	if size, ok := x.size(e, x.value(e)); ok {
		set(&x.container.Resources.Limits, "memory", size)
	}
}

// size is an amount of memory as podman reads it, as Kubernetes writes it.
func (x *exporter) size(e quadlet.Entry, text string) (string, bool) {
	size, ok := quantity(text)
	if !ok {
		x.lost(e, `write it like "512m" or "2g"`, "%s: %q is not an amount of memory", e.Key, text)
	}
	return size, ok
}

// quantity follows RAMInBytes of github.com/docker/go-units: k, m, g, t and p
// are powers of 1024, "b" and "iB" may follow. The quantity is exact
// (k8s.io/apimachinery/pkg/api/resource).
func quantity(text string) (string, bool) {
	number := strings.TrimRight(text, "bBiIkKmMgGtTpP ")
	suffix := strings.ToLower(strings.TrimSpace(text[len(number):]))
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || n <= 0 || strings.Trim(number, "0123456789.") != "" {
		return "", false
	}
	units := [...]string{"", "Ki", "Mi", "Gi", "Ti", "Pi"}
	power := 0
	if unit := strings.TrimSuffix(strings.TrimSuffix(suffix, "b"), "i"); unit != "" {
		power = strings.Index("kmgtp", unit) + 1
		if len(unit) != 1 || power == 0 {
			return "", false
		}
	}
	bytes := n * math.Pow(1024, float64(power))
	if bytes < 1 || bytes > math.MaxInt64/2 {
		return "", false
	}
	whole := int64(bytes)
	for power = 0; whole%1024 == 0 && power < len(units)-1; power++ {
		whole /= 1024
	}
	return strconv.FormatInt(whole, 10) + units[power], true
}

// podmanArgs exports the two options that have no key of their own, and tells
// of every other one.
func (x *exporter) podmanArgs(e quadlet.Entry) {
	words := x.arguments(e)
	for i := 0; i < len(words); i++ {
		option, value, joined := strings.Cut(words[i], "=")
		if !joined && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			i++
			value = words[i]
		}
		switch option {
		case "--memory", "-m":
			if size, ok := x.size(e, value); ok {
				set(&x.container.Resources.Limits, "memory", size)
			}
		case "--memory-reservation":
			if size, ok := x.size(e, value); ok {
				set(&x.container.Resources.Requests, "memory", size)
			}
		case "--cpus":
			n, err := strconv.ParseFloat(value, 64)
			if milli := math.Round(n * 1000); err == nil && milli >= 1 && milli < math.MaxInt32 {
				set(&x.container.Resources.Limits, "cpu", strconv.FormatInt(int64(milli), 10)+"m")
				continue
			}
			x.lost(e, `write it like "1.5"`, "PodmanArgs: %q is not a number of CPUs", value)
		default:
			x.lost(e, "write it as a key of [Container] where there is one (podman-systemd.unit(5))", "PodmanArgs: %s is not exported", option)
		}
	}
}
