package quadlet

import (
	"path/filepath"
	"strings"

	podmanfile "github.com/containers/podman/v4/pkg/systemd/parser"
)

// Entry is one assignment. Value has its continuation lines joined and no
// space at either end.
type Entry struct {
	Section  string
	Key      string
	Value    string
	Pos      Pos // of the key
	ValuePos Pos // of the first byte of the value, or where it would be

	lines *lineMap // of a value that was continued, nil otherwise
}

// Section is one section header as it stands in a file. A file may open the
// same section several times.
type Section struct {
	Name string
	Pos  Pos
}

// File is one Quadlet file with its drop-ins merged in: every assignment in
// the order in which it takes effect.
type File struct {
	Path     string // of the file itself, not of a drop-in
	Sections []Section
	Entries  []Entry
}

// Name is the file's name without directory: "httpd.container".
func (f *File) Name() string { return filepath.Base(f.Path) }

// Has reports whether a section is opened anywhere, with or without entries.
func (f *File) Has(section string) bool {
	for _, s := range f.Sections {
		if s.Name == section {
			return true
		}
	}
	return false
}

// All are the entries of a list key that are in effect: an empty assignment
// clears those before it, as in systemd and Quadlet.
func (f *File) All(section, key string) []Entry {
	var out []Entry
	for _, e := range f.Entries {
		if e.Section != section || e.Key != key {
			continue
		}
		if e.Value == "" {
			out = nil
			continue
		}
		out = append(out, e)
	}
	return out
}

// Last is the assignment of a single-valued key that is in effect.
func (f *File) Last(section, key string) (Entry, bool) {
	for i := len(f.Entries) - 1; i >= 0; i-- {
		if e := f.Entries[i]; e.Section == section && e.Key == key {
			return e, true
		}
	}
	return Entry{}, false
}

// Words are the words of a value that is a list, split at space and unquoted as
// Quadlet splits those of [Install]. systemd differs from it only in quotes
// that are not closed, where it drops the rest.
func (e Entry) Words() []string {
	// The parser of podman/v4 is the same code as in 6.0.0 here.
	u := podmanfile.NewUnitFile()
	u.Add(e.Section, e.Key, e.Value)
	return u.LookupAllStrv(e.Section, e.Key)
}

// Arguments are the words of a value that is a command line: also unescaped,
// as Quadlet does for Exec= and PodmanArgs=, and systemd for ExecStart=.
func (e Entry) Arguments() []string {
	u := podmanfile.NewUnitFile()
	u.Add(e.Section, e.Key, e.Value)
	return u.LookupAllArgs(e.Section, e.Key)
}

// Merge appends what a drop-in says.
func (f *File) Merge(dropin *File) {
	f.Sections = append(f.Sections, dropin.Sections...)
	f.Entries = append(f.Entries, dropin.Entries...)
}

// stem is a file's name without its extension: "httpd" for "httpd.container".
func stem(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) }
