package scale

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// IsSection reports whether a section is ours. [X-ScaleToZero] keeps systemd
// from warning where stock Quadlet copies the section into its unit
// (systemd.unit(5): sections that begin with "X-" are ignored).
func IsSection(name string) bool { return name == "ScaleToZero" || name == "X-ScaleToZero" }

// HasSection reports whether the file has the section, with keys or without.
func HasSection(f *quadlet.File) bool {
	return slices.ContainsFunc(f.Sections, func(s quadlet.Section) bool { return IsSection(s.Name) })
}

// Scales reports whether the section has a meaning in files of this one's kind.
func Scales(f *quadlet.File) bool { return where(f) != 0 }

// where is the kind of the section in a file, 0 if it means nothing there.
func where(f *quadlet.File) Where {
	return map[string]Where{"Container": InContainer, "Pod": InPod, "Kube": InKube}[f.Kind()]
}

// Misplaced tells where a file of another kind has the section in vain.
func Misplaced(f *quadlet.File) quadlet.Diagnostics {
	var ds quadlet.Diagnostics
	for _, s := range f.Sections {
		if IsSection(s.Name) {
			ds.Errorf(s.Pos, "move the section to the .container, .pod or .kube file of the app",
				"[%s] is for .container, .pod and .kube files: nothing is scaled here", s.Name)
		}
	}
	return ds
}

// Mistyped tells of sections whose names are nearly that of ours: nothing is scaled by
// them.
func Mistyped(f *quadlet.File) quadlet.Diagnostics {
	var ds quadlet.Diagnostics
	for _, s := range f.Sections {
		name := strings.TrimPrefix(strings.ToLower(s.Name), "x-")
		if !IsSection(s.Name) && distance(name, "scaletozero") <= 2 {
			ds.Warnf(s.Pos, "write [ScaleToZero]", "[%s] is not zerolet's section, and scales nothing", s.Name)
		}
	}
	return ds
}
