package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

var (
	errLink     = errors.New("a symbolic link")
	errNoSocket = errors.New("it is no socket")
	errOrphan   = errors.New("the process that began to listen has exited, so that nobody knows whose the socket is")
)

// Files reaches apps that listen on unix sockets. The container makes the
// file, in a directory of the host that is mounted into it, and can put anything
// there. So no link of its is followed, and whoever answers must be in the
// container's unit.
type Files struct {
	ownNamespace
	cgroup  *Cgroup
	volumes []string // the directories that are mounted into the container

	mu       sync.Mutex
	refusals map[string]refusal // by path
}

// refusal is a file that led to somebody else. It is not connected to again: it
// might wake whoever that is, or be our own public socket, moved there.
type refusal struct {
	file FileID
	why  error
}

// FileID is one file as long as nobody has changed it. A number is used again, but
// the time of the last change is not.
type FileID struct {
	dev, ino uint64
	changed  unix.Timespec
}

// Identify is the file that has a name now.
func Identify(path string) (FileID, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return FileID{}, os.NewSyscallError("stat", err)
	}
	return FileID{s.Dev, s.Ino, s.Ctim}, nil
}

// NewFiles finds sockets of a unit, some of them in volumes, the directories that
// the container may write to.
func NewFiles(cgroup *Cgroup, volumes []string) *Files {
	return &Files{cgroup: cgroup, volumes: volumes, refusals: make(map[string]refusal)}
}

// dial is DialOne for a path.
func (s *Files) dial(addr wire.Address) (*sock.Socket, error) {
	fd, id, err := s.open(addr.Path)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", addr, hinted(addr, err))
	}
	defer unix.Close(fd)
	if err := s.known(addr.Path, id); err != nil {
		return nil, err
	}
	// A name for what was opened with O_PATH (proc_pid_fd(5)).
	backend, err := connectAs(s, addr, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d", fd)}, netip.AddrPort{})
	if errors.Is(err, errStranger) || errors.Is(err, errOrphan) {
		s.remember(addr.Path, refusal{id, err})
	}
	return backend, err
}

func (s *Files) known(path string, id FileID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.refusals[path]; r.file == id {
		return r.why
	}
	return nil
}

func (s *Files) remember(path string, r refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[path] = r
}

// open finds the socket and does not connect to it. As far as the directory that
// is mounted a path is the administrator's and may have links; where it is not
// known how far that is, it may have none.
func (s *Files) open(path string) (int, FileID, error) {
	volume, below := s.split(path)
	fd, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, FileID{}, err
	}
	// openat2(2) would do this at once, but for RestrictSUIDSGID= it is not
	// there (seccomp_restrict_suid_sgid() in systemd's seccomp-util.c).
	var stat unix.Stat_t
	for name := range strings.SplitSeq(below, "/") {
		dir := fd
		fd, err = openEntry(dir, name, &stat)
		unix.Close(dir)
		if err != nil {
			return -1, FileID{}, err
		}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		unix.Close(fd)
		return -1, FileID{}, errNoSocket
	}
	return fd, FileID{stat.Dev, stat.Ino, stat.Ctim}, nil
}

// openEntry opens what a directory has under a name, unless that is a link.
func openEntry(dir int, name string, stat *unix.Stat_t) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Fstat(fd, stat); err == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
		err = fmt.Errorf("%s is %w, which is not followed there", name, errLink)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// split is the outermost volume on the way to a path, and the way from there. The
// path has no "..", which could lead out of it.
func (s *Files) split(path string) (volume, below string) {
	path = filepath.Clean(path)
	volume, below = "/", path[1:]
	for _, dir := range s.volumes {
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/")+"/")
		if ok && (volume == "/" || len(dir) < len(volume)) {
			volume, below = dir, rest
		}
	}
	return volume, below
}

// Verify looks who listens: the process that has called listen(2), as SO_PEERCRED
// tells (unix(7)). If that has exited, its pid may be another's by now.
func (s *Files) Verify(fd int, _ wire.Address) error { return s.cgroup.HoldsPeer(fd, "listens there") }

// HoldsPeer fails unless the process at the other end of a unix socket, which does
// what is said of it, is in the unit.
func (u *Cgroup) HoldsPeer(fd int, does string) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	pidfd, err := peerProcess(fd, int(cred.Pid))
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	err = u.holds(int(cred.Pid))
	if sock.Ready(pidfd, unix.POLLIN) { // asked last: until now the pid has meant that process
		return errOrphan
	}
	if err != nil {
		return fmt.Errorf("pid %d of uid %d %s: %w", cred.Pid, cred.Uid, does, err)
	}
	return nil
}

// peerProcess is a pidfd of who listens. Before Linux 6.5, which has SO_PEERPIDFD,
// nothing tells a pid that is used again from the one that was meant.
func peerProcess(fd, pid int) (int, error) {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err == unix.ENOPROTOOPT {
		pidfd, err = unix.PidfdOpen(pid, 0)
	}
	switch err {
	case nil:
		return pidfd, nil
	case unix.EINVAL, unix.ESRCH, unix.ENODATA: // it has exited (pidfd_prepare() in kernel/fork.c)
		return -1, errOrphan
	}
	return -1, os.NewSyscallError("getsockopt", err)
}
