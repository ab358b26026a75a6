// Package lab boots throw-away machines with a real systemd and a real Podman for tests.
//
// A machine is a Debian tree in systemd-nspawn with its own process, network and cgroup namespaces: nothing
// but its loopback is reachable from it, and no test touches the host's manager. The tree is built once
// (debootstrap, the host's own package mirror) and cached; every machine writes into a layer of its own, so
// machines run side by side and start in about a second.
//
//	m := lab.New(t, lab.Options{})
//	for _, s := range m.Sessions() {
//		image, err := s.AppImage(ctx)
//		...
//	}
//
// The package does not know what it tests: it never looks at zerolet's files or units.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Options say which machine to start.
type Options struct {
	// Suite is the Debian suite, one of [Suites]. Default: [DefaultSuite].
	Suite string
	// Packages are Debian packages that the machine has besides. Their services start at boot as on any
	// Debian. Each list has a tree of its own, built once.
	Packages []string
	// Bind are directories of the host that the machine sees, and writes, at the same paths.
	Bind []string
	// Outside joins the machine to a network with clients whose addresses are not the machine's, see [Outside].
	Outside bool
	// Bounded has Start wait until there are fewer than [Bound] of such machines on this host, whoever started them.
	// Who has one must not wait for another.
	Bounded bool
	// Log takes what a person waiting for a tree to be built wants to read. Default: standard error.
	Log io.Writer
}

// Machine is one machine and its layer. Its methods that boot or stop it must not run at the same time as
// others of the same machine.
type Machine struct {
	// Suite is the Debian suite that the machine runs.
	Suite string

	tree  *tree
	layer *layer
	bind  []string
	place *os.File // of a bounded machine
	// outsiders says whether it has a network of clients.
	outsiders bool
	run       *run // nil while the machine is off
}

// Start boots a new machine and returns once systemd has started everything, the rootless user's manager
// too. Close it, whatever happened to it meanwhile. A machine also ends with the process that started it.
func Start(ctx context.Context, o Options) (*Machine, error) {
	if o.Suite == "" {
		o.Suite = DefaultSuite
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
	if err := prepareHost(ctx, o.Log); err != nil {
		return nil, err
	}
	tree, err := openTree(ctx, o.Suite, o.Packages, o.Log)
	if err != nil {
		return nil, fmt.Errorf("lab: tree of %s: %w", o.Suite, err)
	}
	m := &Machine{Suite: o.Suite, tree: tree, bind: o.Bind, outsiders: o.Outside}
	if o.Bounded {
		if m.place, err = takePlace(ctx, tree.cache); err != nil {
			return nil, errors.Join(fmt.Errorf("lab: place: %w", err), m.giveUp())
		}
	}
	if m.layer, err = newLayer(tree.cache); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: layer: %w", err), m.giveUp())
	}
	if err := m.Boot(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// A boot takes a second; a stop waits for services, 90 s each by systemd's default.
const (
	bootLimit = 2 * time.Minute
	stopLimit = 5 * time.Minute
)

// Boot starts a machine that is off, with the files it had.
func (m *Machine) Boot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if m.run != nil {
		return errors.New("lab: boot: the machine is running")
	}
	r, err := startRun(ctx, m.tree.root, m.layer, m.bind)
	if err != nil {
		return fmt.Errorf("lab: boot: %w", err)
	}
	m.run = r
	if err := m.settle(ctx); err != nil {
		return fmt.Errorf("lab: boot: %w", err)
	}
	if !m.outsiders {
		return nil
	}
	if err := m.connectOutside(ctx); err != nil {
		return fmt.Errorf("lab: boot: %w", err)
	}
	return nil
}

// settle waits for the end of the boot and for the rootless user's manager, which logind starts aside
// from it for a user that lingers.
func (m *Machine) settle(ctx context.Context) error {
	root := m.Root()
	// Its exit status says "running" or anything else, degraded too (systemctl(1)); Failed tells more.
	out, err := root.Run(ctx, "systemctl", "is-system-running", "--wait")
	if state := strings.TrimSpace(out.Stdout); state != "running" && state != "degraded" {
		return fmt.Errorf("the system is %q: %w", state, err)
	}
	user := m.User()
	if _, err := root.Run(ctx, "systemctl", "start", fmt.Sprintf("user@%d.service", user.uid)); err != nil {
		return err
	}
	out, err = user.Run(ctx, "systemctl", "--user", "is-system-running", "--wait")
	if state := strings.TrimSpace(out.Stdout); state != "running" && state != "degraded" {
		return fmt.Errorf("the manager of %s is %q: %w", user.Name, state, err)
	}
	return nil
}

// Shutdown stops the machine as "systemctl poweroff" does and keeps its files.
func (m *Machine) Shutdown(ctx context.Context) error {
	if m.run == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	if err := m.run.poweroff(ctx); err != nil {
		return fmt.Errorf("lab: shutdown: %w", err)
	}
	m.run = nil
	return nil
}

// Reboot is Shutdown and Boot.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.Shutdown(ctx); err != nil {
		return err
	}
	return m.Boot(ctx)
}

// Kill is a power cut: every process ends at once, what it wrote stays. Boot starts the machine again.
func (m *Machine) Kill() error {
	if m.run == nil {
		return nil
	}
	if err := m.run.kill(); err != nil {
		return fmt.Errorf("lab: kill: %w", err)
	}
	m.run = nil
	return nil
}

// Close kills the machine and deletes its layer.
func (m *Machine) Close() error {
	if err := m.Kill(); err != nil {
		return err
	}
	return errors.Join(m.layer.Close(), m.giveUp())
}

// giveUp gives up what others may have then.
func (m *Machine) giveUp() error {
	var err error
	if m.place != nil {
		err = m.place.Close()
	}
	return errors.Join(err, m.tree.Close())
}

// Leader is the process id of the machine's systemd on the host, 0 while the machine is off.
func (m *Machine) Leader() int {
	if m.run == nil {
		return 0
	}
	return m.run.leader
}

// Failed lists the failed units of both managers, one line each as systemctl prints them.
func (m *Machine) Failed(ctx context.Context) ([]string, error) {
	var failed []string
	for _, s := range m.Sessions() {
		out, err := s.Systemctl(ctx, "list-units", "--failed", "--plain", "--no-legend")
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(out.Stdout) {
			failed = append(failed, s.Name+": "+strings.TrimSpace(line))
		}
	}
	return failed, nil
}

// Install copies a directory, such as the DESTDIR of a "make install", over the machine's root. Owners
// become root, links stay links.
func (m *Machine) Install(ctx context.Context, destdir string) error {
	var archive bytes.Buffer
	// Files alone: tar takes everybody's rights to a directory away while it unpacks into it.
	pack := exec.CommandContext(ctx, "sh", "-c", "find . ! -type d -print0 | tar --owner=0 --group=0 --null --files-from=- -c")
	pack.Dir, pack.Stdout = destdir, &archive
	if out, err := runQuiet(pack); err != nil {
		return fmt.Errorf("lab: install: %w: %s", err, out)
	}
	unpack := m.Root().Command(ctx, "tar", "-C", "/", "-x", "--keep-directory-symlink")
	unpack.Stdin = &archive
	if out, err := runQuiet(unpack); err != nil {
		return fmt.Errorf("lab: install: %w: %s", err, out)
	}
	return nil
}

// runQuiet runs a command and returns what it said on standard error.
func runQuiet(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	return strings.TrimSpace(stderr.String()), err
}

// cacheDir is where trees and layers live: $ZEROLET_LAB_CACHE or a folder of the user's cache directory.
func cacheDir() (string, error) {
	if dir := os.Getenv("ZEROLET_LAB_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Getenv("XDG_CACHE_HOME") == "" && os.Geteuid() == 0 {
		return "/var/cache/zerolet/lab", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "zerolet", "lab"), err
}
