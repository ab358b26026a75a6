package generator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	for _, u := range units {
		if err := o.write(u); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (o Output) write(u Unit) error {
	path := filepath.Join(o.dir(u.Priority), u.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// The name of a temporary file must not end in a unit's suffix.
	tmp := filepath.Join(filepath.Dir(path), ".#"+filepath.Base(path)+".tmp")
	if err := u.create(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}

func (u Unit) create(tmp string) error {
	if u.Link != "" {
		return os.Symlink(u.Link, tmp)
	}
	if err := os.WriteFile(tmp, u.Text(), 0o644); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}
