package reach

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// container is a live process of a container, and its namespaces.
type container struct {
	pidfd int
	// net is nil to who has been let in by another process; user, the one to be
	// root in, is nil, too, if it is the process's own.
	net, user *os.File
}

// errHostNetwork says that to enter would lead nowhere: what listens on the
// host's loopback is not the container.
var errHostNetwork = errors.New("the container is in the network of the host, which its file does not say: " +
	"is it in containers.conf(5), netns=? Write Network= in the file")

// procCgroup is where the kernel writes the cgroup of a process (proc(5)).
func procCgroup(pid int) string { return fmt.Sprintf("/proc/%d/cgroup", pid) }

// whereabouts say how to find the process of a container.
type whereabouts struct {
	pidfile string
	conmon  bool   // has the pid of conmon, whose child the process is
	infra   bool   // conmon is to be looked for in the unit
	unit    string // in whose cgroup the process of the pid is
	// cgroup tells where the kernel writes the cgroup of a process.
	cgroup func(pid int) string
}

func whereaboutsOf(cfg wire.Config) whereabouts {
	return whereabouts{
		pidfile: cfg.PIDFile, conmon: cfg.Conmon || cfg.Infra, infra: cfg.Infra, unit: cfg.Container, cgroup: procCgroup,
	}
}

func (w whereabouts) pid() (int, error) {
	if w.infra {
		return findInfra(w.unit)
	}
	return readPID(w.pidfile)
}

// openContainer finds the container. Pids are used again, and a pidfile may be
// old, so the process must be in the cgroup of the container's unit. The pidfd
// is opened first and asked last: in between, the pid means this process.
func openContainer(w whereabouts) (*container, error) {
	pid, err := w.pid()
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, notThere(os.NewSyscallError("pidfd_open", err))
	}
	c := &container{pidfd: pidfd}
	if err := c.open(pid, w); err != nil {
		alive := c.isAlive()
		c.close()
		if !alive {
			return nil, ErrNoContainer
		}
		return nil, fmt.Errorf("pid %d of %s: %w", pid, cmp.Or(w.pidfile, w.unit), notThere(err))
	}
	return c, nil
}

func (c *container) open(pid int, w whereabouts) error {
	err := checkCgroup(w.cgroup(pid), w.unit)
	if err == nil && w.conmon {
		pid, err = c.descend(pid)
	}
	if err != nil {
		return err
	}
	if c.net, err = openForeign(fmt.Sprintf("/proc/%d/ns/net", pid), "/proc/self/ns/net"); err != nil {
		return err
	}
	if c.net == nil {
		return errHostNetwork
	}
	if c.user, err = outermostUser(c.net); err != nil {
		return err
	}
	if !c.isAlive() {
		return ErrNoContainer
	}
	return nil
}

// openForeign opens a namespace, or returns nil if it is the process's own.
func openForeign(path, own string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	theirs, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	ours, err := os.Stat(own)
	if err == nil && os.SameFile(theirs, ours) {
		f.Close()
		return nil, nil
	}
	return f, err
}

// outermostUser opens the user namespace below the proxy's own in which the
// network namespace was made, perhaps in one further down: Podman's, where the
// user is root, while UserNS= makes one for the container in it. Who is root
// there may do everything in what is below (user_namespaces(7)), and is out of
// the container's reach. It is nil if the network namespace is of the proxy's
// own: entering that again is an error (setns(2)).
func outermostUser(netns *os.File) (*os.File, error) {
	own, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return nil, err
	}
	var outermost *os.File
	next, err := relative(netns, unix.NS_GET_USERNS)
	for err == nil {
		var info os.FileInfo
		if info, err = next.Stat(); err == nil && os.SameFile(info, own) {
			return outermost, next.Close()
		}
		_ = outermost.Close() // of the first there is none
		outermost = next
		if err == nil {
			next, err = relative(outermost, unix.NS_GET_PARENT)
		}
	}
	_ = outermost.Close()
	return nil, err
}

// relative opens the namespace that owns another one, or its parent
// (ioctl_nsfs(2)). Above the process's own it is not allowed to.
func relative(ns *os.File, which uint) (*os.File, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), which)
	if err != nil {
		return nil, os.NewSyscallError("ioctl", err)
	}
	return os.NewFile(uintptr(fd), "user namespace"), nil
}

// isAlive asks the pidfd, which is readable once the process has ended
// (pidfd_open(2)).
func (c *container) isAlive() bool { return !sock.Ready(c.pidfd, unix.POLLIN) }

func (c *container) close() {
	unix.Close(c.pidfd)
	c.closeNamespaces()
}

func (c *container) closeNamespaces() {
	for _, f := range []*os.File{c.net, c.user} {
		if f != nil {
			f.Close()
		}
	}
}

// readPID reads a pidfile. Podman does not write it atomically; what is half
// written is no pid, or one that fails the check of its cgroup.
// Where others may write, it may be anything: no link is followed, nothing
// blocks, and little is read.
func readPID(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: %s is no regular file", ErrNoContainer, path)
	}
	text := make([]byte, 32)
	n, err := f.Read(text)
	if err != nil && err != io.EOF {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%w: %s holds no pid", ErrNoContainer, path)
	}
	return pid, nil
}

// checkCgroup fails unless a process is in the cgroup of the unit of the manager
// that runs this one.
func checkCgroup(file, unit string) error {
	path, err := cgroupPath(file)
	if err != nil {
		return err
	}
	own, err := cgroupPath("/proc/self/cgroup")
	if err != nil {
		return err
	}
	if !inUnit(path, managerCgroup(own), unit) {
		return fmt.Errorf("runs in %s, not in %s", path, unit)
	}
	return nil
}

// notThere turns the errors of looking at a process that has gone into
// ErrNoContainer.
func notThere(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return ErrNoContainer
	}
	return err
}
