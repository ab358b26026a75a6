package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/zerolet/zerolet/quadlet"
)

// Output names the two directories of a generator's arguments that we write
// to: Normal is argv[1], Early is argv[2] (systemd.generator(7)).
type Output struct {
	Normal string
	Early  string
}

func (o Output) dir(p Priority) string {
	if p == Early {
		return o.Early
	}
	return o.Normal
}

// Write puts the units on disk. Each appears whole or not at all: systemd
// may be reading the directory for another job, and a generator can be
// killed at its time limit. A unit that cannot be written does not keep the
// others from being written; the errors come back joined.
func (o Output) Write(units []Unit) error {
	var errs []error
	made := make(map[string]bool)
	for _, u := range units {
		path := filepath.Join(o.dir(u.Priority), u.Name)
		dir := filepath.Dir(path)
		var err error
		if !made[dir] {
			err = os.MkdirAll(dir, 0o755)
			made[dir] = err == nil
		}
		if err == nil {
			err = u.write(path)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (u Unit) write(path string) error {
	if u.Link != "" {
		err := os.Symlink(u.Link, path)
		if errors.Is(err, fs.ErrExist) {
			err = errors.Join(os.Remove(path), os.Symlink(u.Link, path))
		}
		return err
	}
	// The name of a temporary file must not end in a unit's suffix, nor be
	// longer than that of the file, which may be as long as one can be.
	tmp := filepath.Join(filepath.Dir(path), ".#zerolet.tmp")
	err := quadlet.WriteFile(tmp, u.Text(), 0o644)
	if err == nil {
		err = syscall.Rename(tmp, path) // os.Rename looks at the target first
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}
