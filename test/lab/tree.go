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
	"slices"
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
func packages(s suite, extra []string) []string {
	return slices.Concat([]string{
		"systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd",
		"podman", "netavark", "aardvark-dns", "uidmap", "catatonit", "fuse-overlayfs",
		"iproute2", "nftables", "procps", "curl",
	}, extra, s.packages)
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
func openTree(ctx context.Context, name string, extra []string, log io.Writer) (*tree, error) {
	s, err := findSuite(name)
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	flavour, list, setup := flavour(name, extra), packages(s, extra), setupScript+s.setup
	recipe := sha256.Sum256([]byte(strings.Join(list, " ") + "\n" + setup))
	dir := filepath.Join(cache, fmt.Sprintf("%s-%x", flavour, recipe[:6]))
	lock, err := cached(dir, func(tmp string) error {
		return errors.Join(pruneTrees(cache, flavour, dir), buildTree(ctx, name, list, setup, tmp, log))
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

func buildTree(ctx context.Context, suite string, packages []string, setup, dir string, log io.Writer) error {
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
	// All suites of Debian have one script, but a debootstrap older than a suite does not know that. An empty
	// mirror is its own.
	debootstrap := []string{
		"debootstrap", "--variant=minbase", "--include=" + strings.Join(packages, ","),
		suite, root, mirror, "sid",
	}
	if err := isolated(ctx, debootstrap...); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(debootstrap, " "), err)
	}
	// journalctl 262 opens the catalog by way of /proc/self/fd.
	const enter = `mount --bind /proc "$1/proc" && exec chroot "$1" sh -c "$2"`
	if err := isolated(ctx, "sh", "-c", enter, "sh", root, setup); err != nil {
		return fmt.Errorf("setup.sh: %w", err)
	}
	fmt.Fprintf(log, "lab: built the %s tree in %s\n", suite, time.Since(start).Round(time.Second))
	return nil
}
