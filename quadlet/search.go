package quadlet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Manager is a kind of service manager.
type Manager int

const (
	// System is the manager of the machine, PID 1.
	System Manager = iota
	// User is the manager of one user, "systemd --user".
	User
)

func (m Manager) String() string {
	if m == User {
		return "user"
	}
	return "system"
}

// maxDirs bounds a search that follows a symlink into a large tree, such as
// one to "/".
const maxDirs = 1024

// Search says where the Quadlet files of a manager are looked for.
type Search struct {
	Manager Manager
	Getenv  func(string) string // os.Getenv if nil
	UID     int                 // of the user, for [User]
	// UnprivilegedPort is the first port that the user may listen on; 0 where
	// every port may be, or that is not known.
	UnprivilegedPort int
	LegacyCgroups    bool   // the machine has none of version 2
	Root             string // put before /etc, /run and /usr; empty but in tests
}

// Tree is a search directory, and those below it.
type Tree []string

// Trees are the directories that hold the Quadlet files, first come first
// served, with their subdirectories and with symlinks resolved. They are those
// of Quadlet 6.0.0 (GetUnitDirs in pkg/systemd/quadlet/unitdirs.go), without
// the ones that do not exist. An error among the diagnostics means that some
// are missing.
func (s Search) Trees() ([]Tree, Diagnostics) {
	w := walk{seen: make(map[string]bool)}
	if env := s.Env("QUADLET_UNIT_DIRS"); env != "" {
		w.environment(env)
		return w.trees, w.ds
	}
	admin := filepath.Join(s.Root, "/etc/containers/systemd")
	distro := filepath.Join(s.Root, "/usr/share/containers/systemd")
	users := filepath.Join(admin, "users")
	if resolved, err := filepath.EvalSymlinks(users); err == nil {
		users = resolved
	}
	if s.Manager == System {
		w.keep = func(dir string) bool { return !strings.HasPrefix(dir, users) }
		w.plant(filepath.Join(s.Root, "/run/containers/systemd"))
		w.plant(admin)
		w.plant(distro)
		return w.trees, w.ds
	}
	if !s.home(&w) {
		return w.trees, w.ds
	}
	for _, base := range []string{admin, distro} {
		w.keep = func(dir string) bool { return !ofOneUser(dir, users) }
		w.plant(filepath.Join(base, "users"))
		w.keep = nil
		w.plant(filepath.Join(base, "users", strconv.Itoa(s.UID)))
	}
	return w.trees, w.ds
}

// Env is a variable of the manager's environment.
func (s Search) Env(name string) string {
	if s.Getenv == nil {
		return os.Getenv(name)
	}
	return s.Getenv(name)
}

// home adds the directories of the user's own. Without a configuration
// directory Quadlet looks no further (getRootlessDirs), and home is false.
func (s Search) home(w *walk) bool {
	if dir := s.Env("XDG_RUNTIME_DIR"); dir != "" {
		w.plant(filepath.Join(dir, "containers/systemd"))
	}
	config := s.Env("XDG_CONFIG_HOME")
	switch home := s.Env("HOME"); { // as os.UserConfigDir, which Quadlet uses
	case config != "" && !filepath.IsAbs(config):
		w.ds.Warnf(Pos{File: "XDG_CONFIG_HOME"}, "", "not an absolute path: %q", config)
		return false
	case config == "" && home == "":
		w.ds.Warnf(Pos{File: "HOME"}, "", "neither XDG_CONFIG_HOME nor HOME is set")
		return false
	case config == "":
		config = filepath.Join(home, ".config")
	}
	w.plant(filepath.Join(config, "containers/systemd"))
	return true
}

// ofOneUser reports whether a directory is users/UID or below. Quadlet knows
// them only under /etc: below /usr/share/containers/systemd/users each user's
// manager reads the directories of all.
func ofOneUser(dir, users string) bool {
	rest, ok := strings.CutPrefix(dir, users+"/")
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(rest, "/")
	return strings.Trim(name, "0123456789") == ""
}

// walk gathers directories in the order in which Quadlet visits them
// (AppendSubPaths).
type walk struct {
	trees []Tree
	tree  Tree // that grows
	seen  map[string]bool
	keep  func(dir string) bool // nil keeps all
	full  bool                  // maxDirs was told
	ds    Diagnostics
}

// environment adds what QUADLET_UNIT_DIRS names.
func (w *walk) environment(env string) {
	for dir := range strings.SplitSeq(env, ":") {
		if !filepath.IsAbs(dir) {
			w.ds.Warnf(Pos{File: "QUADLET_UNIT_DIRS"}, "name directories by their absolute paths",
				"not an absolute path: %q; it and what follows is ignored, as by Quadlet", dir)
			return
		}
		w.plant(dir)
	}
}

// plant begins a tree.
func (w *walk) plant(path string) {
	w.tree = nil
	w.add(path)
	if len(w.tree) > 0 {
		w.trees = append(w.trees, w.tree)
	}
}

// add adds a directory and those below it. What is not there or not a
// directory is passed over.
func (w *walk) add(path string) {
	dir, err := RealDir(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.ds.Errorf(Pos{File: path}, "", "cannot follow: %v", reason(err))
		}
		return
	}
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		w.descend(dir)
	}
}

// descend adds a directory whose path has no symlink in it. Each is visited
// once, which also ends symlink loops. Directories of drop-ins hold no units.
func (w *walk) descend(dir string) {
	if w.full || w.seen[dir] || strings.HasSuffix(dir, ".d") || w.keep != nil && !w.keep(dir) {
		return
	}
	if len(w.seen) == maxDirs {
		w.full = true
		w.ds.Errorf(Pos{File: dir}, "keep only Quadlet files below the search directories", "more than %d directories, it and what follows is ignored", maxDirs)
		return
	}
	w.seen[dir] = true
	w.tree = append(w.tree, dir)
	entries, _ := os.ReadDir(dir) // Scan tells the error
	for _, e := range entries {
		switch e.Type() {
		case fs.ModeDir:
			w.descend(filepath.Join(dir, e.Name()))
		case fs.ModeSymlink:
			w.add(filepath.Join(dir, e.Name()))
		}
	}
}

// Sources is what the search directories held when they were scanned. It does
// not change and may be used by several goroutines.
type Sources struct {
	dirs    []string
	units   []string // that win, in the order of the directories
	hidden  []Hidden
	dropins map[string][]dropinDir // by the name of the directory
	uids    map[string]int         // with whose rights what is in a directory is read
}

// Hidden is a file that is not read, as another one of its name is found first.
type Hidden struct{ Path, By string }

// Scan reads the search directories once. The diagnostics tell which could not
// be read: files may be missing then.
func Scan(trees []Tree) (*Sources, Diagnostics) {
	var ds Diagnostics
	s := &Sources{dropins: make(map[string][]dropinDir), uids: make(map[string]int)}
	seen := make(map[string]string) // paths, by their names
	for _, tree := range trees {
		for _, dir := range tree {
			s.scan(dir, tree, seen, &ds)
		}
	}
	return s, ds
}

func (s *Sources) scan(dir string, tree Tree, seen map[string]string, ds *Diagnostics) {
	uid := readerOf(dir)
	s.dirs, s.uids[dir] = append(s.dirs, dir), uid
	entries, err := readDir(uid, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		ds.Errorf(Pos{File: dir}, hintOf(uid), "cannot read directory: %v", reason(err))
	}
	for _, e := range entries {
		name := e.Name()
		path := filepath.Join(dir, name)
		switch first := seen[name]; {
		case isDropinDir(name):
			d := readDropinDir(uid, path)
			s.dropins[name] = append(s.dropins[name], d)
			s.uids[d.path] = d.uid
		case !IsKind(filepath.Ext(name)):
		case first == "":
			seen[name] = path
			s.units = append(s.units, path)
		case path != first && slices.Contains(tree, filepath.Dir(first)): // a directory may be there twice
			s.hidden = append(s.hidden, Hidden{path, first})
		}
	}
}

// Hidden are the files that are hidden by one of their own tree. A file of another
// tree is there to be read instead, as one in /etc is instead of one in /usr.
func (s *Sources) Hidden() []Hidden { return s.hidden }

// UID is with whose rights a file is read, 0 being whoever runs.
func (s *Sources) UID(path string) int {
	dir := filepath.Dir(path)
	if uid, scanned := s.uids[dir]; scanned {
		return uid
	}
	return readerOf(dir)
}

// Dirs are the directories that were scanned.
func (s *Sources) Dirs() []string { return s.dirs }

// Units are the paths of the Quadlet files with one of the extensions, or of
// all kinds if none is given. Of several with one name it is the first: also
// when that one cannot be parsed, where Quadlet falls back to the next.
func (s *Sources) Units(ext ...string) []string {
	var out []string
	for _, path := range s.units {
		if len(ext) == 0 || slices.Contains(ext, filepath.Ext(path)) {
			out = append(out, path)
		}
	}
	return out
}

// Find reads the file of a name, with its drop-ins.
func (s *Sources) Find(name string) (*File, bool) {
	for _, path := range s.units {
		if filepath.Base(path) == name {
			f, _ := s.Load(path)
			return f, true
		}
	}
	return nil, false
}
