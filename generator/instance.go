package generator

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
)

// Nobody listens for an instance that nobody knows. Those of a template
// (systemd.unit(5)) are known by the files that are called so, which are links to it,
// and by DefaultInstance= of its own.

// LeftToInstances reports whether a file is a template whose instances, or the default
// one, have files of their own: nothing is made of it then.
func LeftToInstances(f *quadlet.File, files []*quadlet.File) bool {
	return f.IsTemplate() && slices.ContainsFunc(files, func(other *quadlet.File) bool {
		return !other.IsTemplate() && other.Template() == f.Name() && (f.DefaultInstance() == "" || other.Unit() == f.Unit())
	})
}

// withoutTwins leaves out a template whose default instance has a file of its own.
func withoutTwins(files []*quadlet.File) []*quadlet.File {
	return slices.DeleteFunc(slices.Clone(files), func(f *quadlet.File) bool {
		return f.DefaultInstance() != "" && LeftToInstances(f, files)
	})
}
