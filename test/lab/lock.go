package lab

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// lock takes a flock(2) on a file, which it makes, and holds it until the file is closed or the process
// ends. With unix.LOCK_NB it fails with unix.EWOULDBLOCK instead of waiting.
func lock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// cached makes sure that path exists: build makes it under another name, once among all processes. The
// shared lock that comes back keeps path from being pruned.
func cached(path string, build func(tmp string) error) (*os.File, error) {
	f, err := lock(path+".lock", unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	// Going from shared to exclusive and back lets others in between (flock(2)): look again each time.
	for err == nil && !exists(path) {
		if err = flock(f, unix.LOCK_EX); err == nil && !exists(path) {
			err = replace(path, build)
		}
		if err == nil {
			err = flock(f, unix.LOCK_SH)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func replace(path string, build func(tmp string) error) error {
	tmp := path + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := build(tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, path)
}

// prune deletes what cached has made at path, unless somebody holds its lock.
func prune(path string) error {
	f, err := lock(path+".lock", unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(os.RemoveAll(path+".tmp"), os.RemoveAll(path))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
