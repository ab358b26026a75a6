package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// layer is what one machine writes: its changes to the tree and its containers.
type layer struct {
	id  string
	dir string

	lock *os.File
}

// Podman's own overlays cannot lie on an overlay: its storage is bound from a plain directory
// ("filesystem on upperdir not supported", Documentation/filesystems/overlayfs.rst).
func layerDirs() []string {
	return []string{"lower", "upper", "work", "root", "containers", "user-containers"}
}

// newLayer makes an empty layer. Layers whose process is gone are deleted on the way, machine and all.
func newLayer(cache string) (*layer, error) {
	layers := filepath.Join(cache, "layers")
	if err := os.MkdirAll(layers, 0o755); err != nil {
		return nil, err
	}
	if err := refuseOverlay(layers); err != nil {
		return nil, err
	}
	// Between the making of a layer's lock file and its locking, nobody may take it for an orphan.
	all, err := lock(filepath.Join(cache, "layers.lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := removeOrphans(layers); err != nil {
		return nil, err
	}
	id := strings.ToLower(rand.Text()[:8])
	own, err := lock(filepath.Join(layers, id+".lock"), unix.LOCK_EX|unix.LOCK_NB)
	if err != nil {
		return nil, err
	}
	l := &layer{id: id, dir: filepath.Join(layers, id), lock: own}
	for _, name := range layerDirs() {
		if err := os.MkdirAll(filepath.Join(l.dir, name), 0o755); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if err := os.Chown(filepath.Join(l.dir, "user-containers"), userID, userID); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// refuseOverlay says what to do inside a container, whose own root is an overlay.
func refuseOverlay(dir string) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return err
	}
	if stat.Type == unix.OVERLAYFS_SUPER_MAGIC {
		return fmt.Errorf("%s lies on overlayfs, which cannot hold another: set ZEROLET_LAB_CACHE to a directory that does not", dir)
	}
	return nil
}

// removeOrphans deletes the layers that no living process has locked.
func removeOrphans(layers string) error {
	locks, err := filepath.Glob(filepath.Join(layers, "*.lock"))
	for _, path := range locks {
		f, lockErr := lock(path, unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(lockErr, unix.EWOULDBLOCK) {
			continue
		}
		if lockErr != nil {
			err = errors.Join(err, lockErr)
			continue
		}
		dir := strings.TrimSuffix(path, ".lock")
		orphan := &layer{id: filepath.Base(dir), dir: dir, lock: f}
		err = errors.Join(err, orphan.Close())
	}
	return err
}

// Close kills what runs in the layer and deletes it.
func (l *layer) Close() error {
	group, err := l.cgroup()
	if err == nil {
		err = group.kill()
	}
	if err == nil {
		err = group.remove()
	}
	if err == nil {
		err = os.RemoveAll(l.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lab: layer %s: %w", l.id, err), l.lock.Close())
	}
	// Who looks for orphans may have opened the file just before its owner removed it.
	err = os.Remove(l.lock.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, l.lock.Close())
}

func (l *layer) cgroup() (*cgroup, error) {
	return findCgroup("zerolet-lab-" + l.id)
}
