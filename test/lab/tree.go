package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The recipe of a tree is packages and setup.sh; a change of either makes a new tree.
//
//go:embed setup.sh
var setupScript string

// flavour names a tree: the suite, and what was asked for besides. The plain tree of a suite is neither
// changed nor pruned by one with more in it.
func flavour(suite string, extra []string) string {
	return strings.Join(append([]string{suite}, extra...), "+")
}

// packages are what debootstrap installs besides the minbase system, without what they recommend.
func packages(suite string, extra []string) []string {
	list := []string{
		"systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd",
		"podman", "netavark", "aardvark-dns", "uidmap", "catatonit", "fuse-overlayfs",
		"iproute2", "nftables", "procps", "curl",
	}
	list = append(list, extra...)
	if suite == "bookworm" {
		// Podman 4.3 gives rootless containers slirp4netns; netavark 1.4 speaks iptables only.
		return append(list, "runc", "slirp4netns", "iptables")
	}
	return append(list, "crun", "passt")
}

// tree is a root directory that every machine of a suite reads and none writes.
type tree struct {
	root  string // the root directory
	dir   string // holds root and the archives of images
	cache string
	lock  *os.File
}

// openTree returns the tree of a suite with extra packages, which it builds if it is not there, and deletes
// older ones of the same flavour after that.
func openTree(ctx context.Context, suite string, extra []string, log io.Writer) (*tree, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	name, list := flavour(suite, extra), packages(suite, extra)
	recipe := sha256.Sum256([]byte(strings.Join(list, " ") + "\n" + setupScript))
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", name, recipe[:6]))
	lock, err := cached(dir, func(tmp string) error {
		return errors.Join(pruneTrees(cache, name, dir), buildTree(ctx, suite, list, tmp, log))
	})
	if err != nil {
		return nil, err
	}
	return &tree{root: filepath.Join(dir, "root"), dir: dir, cache: cache, lock: lock}, nil
}

// Close gives up the tree, not its files.
func (t *tree) Close() error { return t.lock.Close() }

func pruneTrees(cache, name, current string) error {
	locks, err := filepath.Glob(filepath.Join(cache, name+"-*.lock"))
	for _, lock := range locks {
		if path := strings.TrimSuffix(lock, ".lock"); path != current {
			err = errors.Join(err, prune(path))
		}
	}
	return err
}

func buildTree(ctx context.Context, suite string, packages []string, dir string, log io.Writer) error {
	mirror, err := hostMirror(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintf(log, "lab: building the %s tree, once (one to four minutes)\n", suite)
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	debootstrap := []string{"debootstrap", "--variant=minbase", "--include=" + strings.Join(packages, ","), suite, root}
	if mirror != "" {
		debootstrap = append(debootstrap, mirror)
	}
	if err := isolated(ctx, debootstrap...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(debootstrap, " "), err)
	}
	if err := isolated(ctx, "chroot", root, "sh", "-c", setupScript); err != nil {
		return fmt.Errorf("setup.sh: %w", err)
	}
	fmt.Fprintf(log, "lab: built the %s tree in %s\n", suite, time.Since(start).Round(time.Second))
	return nil
}
