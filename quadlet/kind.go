package quadlet

import (
	"path/filepath"
	"strings"
)

// kind is one of Quadlet's kinds of files: the section that is about the object,
// and what its service's name ends in unless ServiceName= says it
// (podman-systemd.unit(5); GetUnitServiceName and its like in Podman 6.0.0's
// pkg/systemd/quadlet/quadlet.go).
type kind struct{ section, suffix string }

// kindOf is false for a file that is none of Quadlet's (SupportedExtensions in
// pkg/systemd/quadlet/quadlet_common.go).
func kindOf(ext string) (kind, bool) {
	k, ok := map[string]kind{
		".container": {"Container", ""},
		".kube":      {"Kube", ""},
		".pod":       {"Pod", "-pod"},
		".volume":    {"Volume", "-volume"},
		".network":   {"Network", "-network"},
		".image":     {"Image", "-image"},
		".build":     {"Build", "-build"},
		".artifact":  {"Artifact", "-artifact"},
	}[ext]
	return k, ok
}

// IsKind reports whether an extension is one of Quadlet's.
func IsKind(ext string) bool {
	_, ok := kindOf(ext)
	return ok
}

func (f *File) kind() kind {
	k, _ := kindOf(filepath.Ext(f.Path))
	return k
}

// Kind is the section that a file of its kind is about: "Container".
func (f *File) Kind() string { return f.kind().section }

// Unit is the name of the file's service without ".service": of a template that of
// its default instance, if there is one.
func (f *File) Unit() string {
	unit := stem(f.Name()) + f.kind().suffix
	if e, ok := f.Last(f.Kind(), "ServiceName"); ok && e.Value != "" {
		unit = e.Value
	}
	if strings.HasSuffix(unit, "@") {
		unit += f.DefaultInstance()
	}
	return unit
}

// Suffix is what the names of services of such files end in.
func (f *File) Suffix() string { return f.kind().suffix }

// ContainerName is what Podman calls the container of a .container file, as far as it
// is made of nothing but the file's name (getContainerName in Podman 6.0.0's
// pkg/systemd/quadlet/quadlet.go).
func (f *File) ContainerName() (name string, known bool) {
	if f.Kind() != "Container" {
		return "", false
	}
	name = "systemd-%N"
	if strings.Contains(f.Name(), "@") {
		name = "systemd-%p_%i"
	}
	if e, ok := f.Last("Container", "ContainerName"); ok && e.Value != "" {
		name = e.Value
	}
	for _, letter := range "ijnNpIJP" {
		if text, _ := f.Specifier(byte(letter)); text != "" {
			name = strings.ReplaceAll(name, "%"+string(letter), text)
		}
	}
	return name, !strings.ContainsAny(name, "%$")
}

// PodName is what Podman calls the pod of a .pod file, likewise (ConvertPod).
func (f *File) PodName() (name string, known bool) {
	if f.Kind() != "Pod" {
		return "", false
	}
	name = "systemd-" + strings.TrimSuffix(f.Name(), ".pod")
	if e, ok := f.Last("Pod", "PodName"); ok && e.Value != "" {
		name = e.Value
	}
	return name, !strings.ContainsAny(name, "%$")
}

// UnitPos is where the file says how its service is called: the line of
// ServiceName=, or that of the section.
func (f *File) UnitPos() Pos {
	if e, ok := f.Last(f.Kind(), "ServiceName"); ok && e.Value != "" {
		return e.Pos
	}
	for _, s := range f.Sections {
		if s.Name == f.Kind() {
			return s.Pos
		}
	}
	return Pos{File: f.Path}
}
