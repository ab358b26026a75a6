package generator

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
)

// Nobody listens for an instance that nobody knows. Those of a template
// (systemd.unit(5)) are known by the files that are called so, which are links to it,
// and by DefaultInstance= of its own.

// withoutTwins leaves out a template whose default instance has a file of its own.
func withoutTwins(files []*quadlet.File) []*quadlet.File {
	services := make(map[string]bool)
	for _, f := range files {
		if !f.IsTemplate() {
			services[f.Unit()] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(f *quadlet.File) bool { return f.IsTemplate() && services[f.Unit()] })
}

// standsForOthers reports whether a file is a template that is none of its own
// instances, and has some.
func standsForOthers(f *quadlet.File, files []*quadlet.File) bool {
	return f.IsTemplate() && f.DefaultInstance() == "" && slices.ContainsFunc(files, func(other *quadlet.File) bool {
		return !other.IsTemplate() && other.Template() == f.Name()
	})
}
