package quadlet

import (
	"path/filepath"
	"slices"
	"strings"
)

// DropinDirs are the names of the directories that hold drop-ins for a file,
// the most specific first. They are those of Podman 6.0.0 (GetUnitDropinPaths
// in pkg/systemd/parser/unitfile.go): for "web-app@1.container"
//
//	web-app@1.container.d
//	web-app@.container.d
//	web-@.container.d
//	web-.container.d
//	container.d
func DropinDirs(name string) []string {
	ext := filepath.Ext(name)
	dropinExt := ext + ".d"
	unit, instance, template := strings.Cut(strings.TrimSuffix(name, ext), "@")

	dirs := []string{name + ".d"}
	if instance != "" {
		dirs = append(dirs, unit+"@"+dropinExt)
	}
	for i := len(unit) - 1; i >= 0; i-- {
		if unit[i] != '-' {
			continue
		}
		if template {
			dirs = append(dirs, unit[:i+1]+"@"+dropinExt)
		}
		dirs = append(dirs, unit[:i+1]+dropinExt)
	}
	return append(dirs, strings.TrimPrefix(dropinExt, "."))
}

// isDropinDir reports whether a name can be that of a drop-in directory.
func isDropinDir(name string) bool {
	base, ok := strings.CutSuffix(name, ".d")
	return ok && (IsKind(filepath.Ext(base)) || IsKind("."+base))
}

// dropinDir is one directory of drop-ins.
type dropinDir struct {
	path  string
	uid   int      // with whose rights it is read
	names []string // of its .conf files, sorted
	err   error    // why it could not be read
}

func readDropinDir(uid int, path string) dropinDir {
	if uid == 0 && !ofRoot(path) {
		uid = readerOf(path)
	}
	entries, err := readDir(uid, path)
	d := dropinDir{path: path, uid: uid, err: err}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".conf" {
			d.names = append(d.names, e.Name())
		}
	}
	return d
}

// Dropins are the paths of the drop-ins of a file, in the order in which they
// are merged. That is the order of their names, whatever the directory; so the
// last one has the greatest name. Of several with one name the most specific
// directory's wins, then the first search directory's (loadUnitDropins in
// Podman's cmd/quadlet/main.go).
func (s *Sources) Dropins(name string) []string {
	paths, _ := s.findDropins(name)
	return paths
}

func (s *Sources) findDropins(name string) ([]string, Diagnostics) {
	var (
		ds    Diagnostics
		names []string
		paths map[string]string
	)
	for _, dirName := range DropinDirs(name) {
		for _, dir := range s.dropins[dirName] {
			if dir.err != nil {
				ds.Errorf(Pos{File: dir.path}, hintOf(dir.uid), "cannot read drop-in directory: %v", reason(dir.err))
			}
			for _, conf := range dir.names {
				if _, ok := paths[conf]; ok {
					continue
				}
				if paths == nil {
					paths = make(map[string]string)
				}
				paths[conf] = filepath.Join(dir.path, conf)
				names = append(names, conf)
			}
		}
	}
	slices.Sort(names)
	for i, conf := range names {
		names[i] = paths[conf]
	}
	return names, ds
}

func (s *Sources) read(path string) (*File, Diagnostics) { return readFile(s.UID(path), path) }

// Load reads a file and merges its drop-ins. The diagnostics are those of all
// these files. A drop-in with errors, which Quadlet leaves out, is merged as
// far as it could be read: what it says about scaling must be seen, and the
// error keeps the file from being used.
func (s *Sources) Load(path string) (*File, Diagnostics) {
	f, ds := s.read(path)
	paths, more := s.findDropins(f.Name())
	ds = append(ds, more...)
	for _, dropin := range paths {
		d, more := s.read(dropin)
		ds = append(ds, more...)
		f.Merge(d)
	}
	return f, ds
}
