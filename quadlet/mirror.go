package quadlet

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// mirror shows Quadlet exactly the files that we read, with our overrides: a
// tree of links under a private root, each at its real path. Quadlet itself
// would search every directory of QUADLET_UNIT_DIRS with all below it, other
// users' files included, and drop a whole directory for one file that does
// not parse (both tried on 5.4.2 and 6.0.0).
//
// Relative paths in a file come out absolute and below the root. The root's
// name is random, so cutting it from the output gives the real paths.
type mirror struct {
	root    string
	sources *Sources
	removed map[string]string // files that Quadlet could not read, and why
}

func (c Converter) mirror(overrides []Override) (*mirror, error) {
	root, err := os.MkdirTemp(c.TempDir, "zerolet-")
	if err == nil {
		root, err = filepath.EvalSymlinks(root) // as Quadlet will
	}
	if err != nil {
		return nil, err
	}
	m := &mirror{root: root, sources: c.Sources, removed: make(map[string]string)}
	for _, path := range c.Sources.Units() {
		err = errors.Join(err, m.link(path))
	}
	for _, o := range overrides {
		err = errors.Join(err, m.override(o))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	return m, nil
}

// link shows one file and its drop-ins.
func (m *mirror) link(path string) error {
	if err := os.MkdirAll(m.root+filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Symlink(path, m.root+path); err != nil {
		return err
	}
	dropins := m.sources.Dropins(filepath.Base(path))
	if len(dropins) == 0 {
		return nil
	}
	dir := m.root + path + ".d"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, dropin := range dropins {
		if err := os.Symlink(dropin, filepath.Join(dir, filepath.Base(dropin))); err != nil {
			return err
		}
	}
	return nil
}

// override adds a drop-in under a name that sorts after every other of the
// file: the last one wins.
func (m *mirror) override(o Override) error {
	dir := m.root + o.File.Path + ".d"
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	name := "zz-zerolet.conf"
	if dropins := m.sources.Dropins(o.File.Name()); len(dropins) > 0 {
		if last := filepath.Base(dropins[len(dropins)-1]); last >= name {
			name = strings.TrimSuffix(last, ".conf") + "~zerolet.conf"
		}
	}
	return os.WriteFile(filepath.Join(dir, name), o.text(), 0o600)
}

// dirs is the value of QUADLET_UNIT_DIRS.
func (m *mirror) dirs() string {
	var dirs []string
	for _, dir := range m.sources.Dirs() {
		dirs = append(dirs, m.root+dir)
	}
	return strings.Join(dirs, ":")
}

// real is Quadlet's output with the real paths.
func (m *mirror) real(out []byte) []byte { return bytes.ReplaceAll(out, []byte(m.root), nil) }

// remove takes away the files that Quadlet could not read, and tells whether
// there were any: their neighbours then get their units.
func (m *mirror) remove(refused map[string]string) bool {
	found := false
	for path := range refused {
		info, err := os.Lstat(m.root + path)
		if err == nil && info.Mode()&fs.ModeSymlink != 0 && os.Remove(m.root+path) == nil {
			found = true
		}
	}
	if found {
		maps.Copy(m.removed, refused)
	}
	return found
}
