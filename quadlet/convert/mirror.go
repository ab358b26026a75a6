package convert

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// mirror shows Quadlet the files that it needs, with our overrides: a
// tree of links under a private root, each at its real path. Quadlet itself
// would search every directory of QUADLET_UNIT_DIRS with all below it, other
// users' files included, and drop a whole directory for one file that does
// not parse (both tried on 5.4.2 and 6.0.0).
//
// Relative paths in a file come out absolute and below the root. The root's
// name is random, so cutting it from the output gives the real paths.
type mirror struct {
	root    string
	sources *quadlet.Sources
	removed map[string]string // files that Quadlet could not read, and why
	dirs    map[string]bool   // that are there
	made    []string          // paths, each after its directory
}

// needed are the names of the .container files that have an override, or that
// one of these or a file of another kind refers to, as After=db.container
// does. The others are many and would cost Quadlet time.
func (c Config) needed(overrides []Override) map[string]bool {
	names := make(map[string]bool)
	refer := func(f *quadlet.File) {
		for _, e := range f.Entries {
			if strings.Contains(e.Value, ".container") {
				for _, word := range strings.FieldsFunc(e.Value, func(r rune) bool { return strings.ContainsRune(" \t\"',:=", r) }) {
					names[word] = true
				}
			}
		}
	}
	for _, o := range overrides {
		names[o.File.Name()] = true
		refer(o.File)
	}
	for _, path := range c.Sources.Units() {
		if filepath.Ext(path) != ".container" {
			f, _ := c.Sources.Load(path)
			refer(f)
		}
	}
	return names
}

func (c Config) mirror(overrides []Override) (*mirror, error) {
	root, err := os.MkdirTemp("", "zerolet-")
	if err != nil && c.TempDir != "" {
		root, err = os.MkdirTemp(c.TempDir, "zerolet-")
	}
	if err == nil {
		root, err = filepath.EvalSymlinks(root) // as Quadlet will
	}
	if err != nil {
		return nil, err
	}
	m := &mirror{root: root, sources: c.Sources, removed: make(map[string]string), dirs: map[string]bool{root: true}, made: []string{root}}
	needed := c.needed(overrides)
	for _, path := range c.Sources.Units() {
		if filepath.Ext(path) != ".container" || needed[filepath.Base(path)] {
			err = errors.Join(err, m.link(path))
		}
	}
	for _, o := range overrides {
		err = errors.Join(err, m.override(o))
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// link shows one file and its drop-ins.
func (m *mirror) link(path string) error {
	if err := m.show(path, m.root+path); err != nil {
		return err
	}
	for _, dropin := range m.sources.Dropins(filepath.Base(path)) {
		if err := m.show(dropin, filepath.Join(m.root+path+".d", filepath.Base(dropin))); err != nil {
			return err
		}
	}
	return nil
}

// show makes a link to a file, or a copy where root has to read it with a user's
// rights: Quadlet would follow that user's links. What cannot be read is left
// out; the error is told by who reads it for the plan.
func (m *mirror) show(file, path string) error {
	uid := m.sources.UID(file)
	text, err := []byte(nil), error(nil)
	if uid != 0 {
		text, err = quadlet.ReadAs(uid, file)
	}
	if err != nil || uid == 0 && !quadlet.Regular(file) {
		return nil
	}
	if err := m.mkdir(filepath.Dir(path)); err != nil {
		return err
	}
	m.made = append(m.made, path)
	if uid != 0 {
		return quadlet.WriteFile(path, text, 0o600)
	}
	return os.Symlink(file, path)
}

// mkdir makes a directory with those above it.
func (m *mirror) mkdir(dir string) error {
	if m.dirs[dir] {
		return nil
	}
	if err := m.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	m.dirs[dir] = true
	m.made = append(m.made, dir)
	return os.Mkdir(dir, 0o700)
}

// close removes what was made, and nothing else.
func (m *mirror) close() error {
	var err error
	for _, path := range slices.Backward(m.made) {
		if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// override adds a drop-in under a name that sorts after every other of the
// file: the last one wins.
func (m *mirror) override(o Override) error {
	dir := m.root + o.File.Path + ".d"
	if err := m.mkdir(dir); err != nil {
		return err
	}
	name := "zz-zerolet.conf"
	if dropins := m.sources.Dropins(o.File.Name()); len(dropins) > 0 {
		if last := filepath.Base(dropins[len(dropins)-1]); last >= name {
			name = strings.TrimSuffix(last, ".conf") + "~zerolet.conf"
		}
	}
	path := filepath.Join(dir, name)
	m.made = append(m.made, path)
	return quadlet.WriteFile(path, o.text(), 0o600)
}

// unitDirs is the value of QUADLET_UNIT_DIRS.
func (m *mirror) unitDirs() string {
	var dirs []string
	for _, dir := range m.sources.Dirs() {
		dirs = append(dirs, m.root+dir)
	}
	return strings.Join(dirs, ":")
}

// real is Quadlet's output with the real paths.
func (m *mirror) real(out []byte) []byte { return bytes.ReplaceAll(out, []byte(m.root), nil) }

// remove takes away the files that Quadlet could not read, and reports whether
// there were any: their neighbours then get their units.
func (m *mirror) remove(refused map[string]string) bool {
	found := false
	for path := range refused {
		info, err := os.Lstat(m.root + path)
		if err == nil && !info.IsDir() && os.Remove(m.root+path) == nil {
			found = true
		}
	}
	if found {
		maps.Copy(m.removed, refused)
	}
	return found
}
