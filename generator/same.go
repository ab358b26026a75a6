package generator

import (
	"bytes"
	"path"
	"slices"

	"github.com/zerolet/zerolet/quadlet"
)

// Same reports whether a unit file says the same as the unit. Quadlet writes
// some of podman's options in the order of a map of Go's, another at each run:
// the arguments of that command alone are the same in any order. What they are
// made of stands in the unit, too, in order: the file's own sections. Whether it waits
// for a place is because of other files, and of the machine.
func (u Unit) Same(text []byte) bool {
	mine := u.Text()
	if bytes.Equal(text, mine) {
		return true
	}
	file, ds := quadlet.Parse(u.Name, text)
	if ds.HasErrors() {
		return false
	}
	unit, _ := quadlet.Parse(u.Name, mine)
	return slices.EqualFunc(u.withoutPlace(file), u.withoutPlace(unit), func(a, b quadlet.Entry) bool {
		return a.Section == b.Section && a.Key == b.Key && (a.Value == b.Value || sameCommand(a, b))
	})
}

// withoutPlace are a file's entries but for the command with which the unit waits for a
// place.
func (u Unit) withoutPlace(f *quadlet.File) []quadlet.Entry {
	return slices.DeleteFunc(f.Entries, func(e quadlet.Entry) bool {
		return u.place != "" && e.Section == "Service" && e.Key == "ExecStartPre" && e.Value == u.place
	})
}

// sameCommand reports whether two entries start podman with the same arguments.
func sameCommand(a, b quadlet.Entry) bool {
	if a.Section != "Service" || a.Key != "ExecStart" || len(a.Value) != len(b.Value) {
		return false
	}
	first, second := a.Arguments(), b.Arguments()
	if len(first) == 0 || path.Base(first[0]) != "podman" {
		return false
	}
	slices.Sort(first)
	slices.Sort(second)
	return slices.Equal(first, second)
}
