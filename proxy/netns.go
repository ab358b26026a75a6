package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// HelperArg as the only argument makes the program the helper that makes
// sockets in the network namespace it is started in.
const HelperArg = "--netns-helper"

const (
	// batch is how many sockets the helper makes for one request.
	batch = 16
	// most is how many addresses of a container are tried.
	most = 16
	// helperTimeout bounds the start of a helper and each answer.
	helperTimeout = 5 * time.Second
	// helperGrace is how long a helper may take to end.
	helperGrace = time.Second
	// helperPause is the least time between two starts when they fail.
	helperPause = 100 * time.Millisecond
)

// The descriptors of a helper and of the nsenter(1) that becomes it.
const (
	helperConn = 3 + iota
	helperExe
	helperNet
	helperUser
)

// errNoContainer says that the pidfile does not lead to a live container now.
var errNoContainer = errors.New("no container")

// containerNamespace makes sockets in a container's network namespace. A
// helper process does that: entering the user namespace that owns it is
// refused to a process with several threads (setns(2)), and a Go program has
// several. So nsenter(1) enters and then becomes this program again.
type containerNamespace struct {
	pidfile, unit string
	// cgroup tells where the kernel writes the cgroup of a process.
	cgroup func(pid int) string

	mu       sync.Mutex
	helper   *helper
	notUntil time.Time // of the next start
	startErr error
}

func newContainerNamespace(pidfile, unit string) *containerNamespace {
	return &containerNamespace{
		pidfile: pidfile, unit: unit,
		cgroup: func(pid int) string { return fmt.Sprintf("/proc/%d/cgroup", pid) },
	}
}

func (n *containerNamespace) socket(family, kind int) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper == nil {
		if err := n.start(); err != nil {
			return -1, err
		}
	}
	fd, err := n.helper.socket(socketKind{byte(family), byte(kind)})
	if errors.Is(err, errHelper) {
		err = n.broken(err)
	}
	return fd, err
}

// own asks the helper once: a container has its addresses before it starts.
func (n *containerNamespace) own() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper == nil {
		return nil
	}
	addrs, err := n.helper.addresses()
	if err != nil {
		_ = n.broken(err) // the next dial says so
	}
	return addrs
}

// verify has nothing to find but an address that a container had and the next
// one has not: that may be a neighbour's by now. Who talks to an address of its own
// does so from the same.
func (n *containerNamespace) verify(fd int) error {
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return nil // reset already
	}
	if address(TCP, remote).IP.Addr().IsLoopback() {
		return nil
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if address(TCP, local).IP.Addr() != address(TCP, remote).IP.Addr() {
		return errNoContainer
	}
	return nil
}

// refused gives the helper up if its container has died: its namespace lives
// on as long as the helper does, and refuses every connection.
func (n *containerNamespace) refused() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper != nil && !n.helper.container.isAlive() {
		n.drop()
	}
}

func (n *containerNamespace) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper != nil {
		n.drop()
	}
}

// start gets a helper for the container that the pidfile tells of. If that is
// there and yet cannot be entered, the next try has to wait: it costs a
// process.
func (n *containerNamespace) start() error {
	if time.Now().Before(n.notUntil) {
		return n.startErr
	}
	c, err := openContainer(n.pidfile, n.unit, n.cgroup)
	if err != nil {
		return err
	}
	n.helper, err = startHelper(c)
	if err != nil {
		c.close()
		n.startErr, n.notUntil = err, time.Now().Add(helperPause)
	}
	return err
}

// drop ends the helper and returns the last thing it said.
func (n *containerNamespace) drop() (said string) {
	said = n.helper.close()
	n.helper = nil
	return said
}

// broken drops the helper that failed with err and says why: no container
// perhaps, or what the helper had to say.
func (n *containerNamespace) broken(err error) error {
	alive := n.helper.container.isAlive()
	said := n.drop()
	if !alive {
		return errNoContainer
	}
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	n.startErr, n.notUntil = err, time.Now().Add(helperPause)
	return err
}

// container is a live process of a container, and its namespaces.
type container struct {
	pidfd     int
	net, user *os.File // user is nil if it is the proxy's own
}

// openContainer finds the container. Pids are used again, and a pidfile may be
// old, so the process must be in the cgroup of the container's unit. The pidfd
// is opened first and asked last: in between, the pid means this process.
func openContainer(pidfile, unit string, cgroup func(pid int) string) (*container, error) {
	pid, err := readPID(pidfile)
	if err != nil {
		return nil, err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, notThere(os.NewSyscallError("pidfd_open", err))
	}
	c := &container{pidfd: pidfd}
	if err := c.open(pid, unit, cgroup(pid)); err != nil {
		alive := c.isAlive()
		c.close()
		if !alive {
			return nil, errNoContainer
		}
		return nil, fmt.Errorf("pid %d of %s: %w", pid, pidfile, notThere(err))
	}
	return c, nil
}

func (c *container) open(pid int, unit, cgroupFile string) error {
	if err := checkCgroup(cgroupFile, unit); err != nil {
		return err
	}
	var err error
	if c.net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", pid)); err != nil {
		return err
	}
	if c.user, err = openForeign(fmt.Sprintf("/proc/%d/ns/user", pid), "/proc/self/ns/user"); err != nil {
		return err
	}
	if !c.isAlive() {
		return errNoContainer
	}
	return nil
}

// openForeign opens a namespace, or returns nil if it is the process's own:
// entering that again is an error (setns(2)).
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
	return f, nil
}

// isAlive asks the pidfd, which is readable once the process has ended
// (pidfd_open(2)).
func (c *container) isAlive() bool { return !has(c.pidfd, unix.POLLIN) }

func (c *container) close() {
	unix.Close(c.pidfd)
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
		return 0, fmt.Errorf("%w: %s is no regular file", errNoContainer, path)
	}
	text := make([]byte, 32)
	n, err := f.Read(text)
	if err != nil && err != io.EOF {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 0 {
		return 0, fmt.Errorf("%w: %s holds no pid", errNoContainer, path)
	}
	return pid, nil
}

// checkCgroup fails unless the cgroup (v2, the line "0::", cgroups(7)) is in
// that of the unit: systemd names a unit's cgroup after it.
func checkCgroup(file, unit string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		if slices.Contains(strings.Split(path, "/"), unit) {
			return nil
		}
		return fmt.Errorf("runs in %s, not in %s", path, unit)
	}
	return errors.New("has no cgroup of version 2")
}

// notThere turns the errors of looking at a process that has gone into
// errNoContainer.
func notThere(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return errNoContainer
	}
	return err
}

// errHelper says that the helper does not work, and a new one might.
var errHelper = errors.New("namespace helper")

// helper is a running helper process. Only one goroutine at a time may use it.
type helper struct {
	container *container
	cmd       *exec.Cmd
	stderr    bytes.Buffer
	conn      *net.UnixConn
	spare     map[socketKind][]int // sockets not used yet
	asked     bool                 // for the addresses
	addrs     []netip.Addr
}

// socketKind is what the helper is asked for: AF_INET and SOCK_STREAM for
// instance.
type socketKind struct{ family, kind byte }

// askAddresses is a request that is not for sockets: no family has that number.
const askAddresses = unix.AF_UNSPEC

// startHelper starts one in the container's namespaces. It takes over c unless
// it fails. Whether nsenter could enter shows with the first request.
func startHelper(c *container) (*helper, error) {
	exe, err := os.Open("/proc/self/exe") // the path may be another program by now
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	ours, theirs, err := connPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	h := &helper{container: c, conn: ours, spare: make(map[socketKind][]int)}
	h.cmd = nsenter(c, theirs, exe)
	h.cmd.Stderr = &h.stderr
	if err := h.cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, err
	}
	return h, nil
}

// nsenter is the command that enters the container's namespaces and becomes
// the helper. It keeps its uid and gids: root of the namespace is not needed,
// and some mappings have none.
func nsenter(c *container, conn, exe *os.File) *exec.Cmd {
	args := []string{fdArg("--net=", helperNet)}
	files := []*os.File{conn, exe, c.net}
	if c.user != nil {
		args = append(args, fdArg("--user=", helperUser), "--preserve-credentials")
		files = append(files, c.user)
	}
	cmd := exec.Command("nsenter", append(args, "--", fdArg("", helperExe), HelperArg)...)
	cmd.Env = []string{"GOMAXPROCS=1"} // not NOTIFY_SOCKET, not LISTEN_FDS
	cmd.ExtraFiles = files
	cmd.WaitDelay = helperGrace
	return cmd
}

func fdArg(prefix string, fd int) string { return prefix + "/proc/self/fd/" + strconv.Itoa(fd) }

// connPair makes the connection of proxy and helper; SOCK_SEQPACKET keeps
// requests apart and tells when the other end is gone.
func connPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "helper")
	file := os.NewFile(uintptr(fds[0]), "proxy")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), theirs, nil
}

// socket returns a socket of the kind, asking for a batch if none is left.
// The error wraps errHelper if the helper itself failed.
func (h *helper) socket(k socketKind) (int, error) {
	if len(h.spare[k]) == 0 {
		fds, err := h.request(k)
		if err != nil {
			return -1, err
		}
		h.spare[k] = fds
	}
	last := len(h.spare[k]) - 1
	fd := h.spare[k][last]
	h.spare[k] = h.spare[k][:last]
	return fd, nil
}

// request asks for sockets.
func (h *helper) request(k socketKind) ([]int, error) {
	rights := make([]byte, unix.CmsgSpace(batch*4))
	_, oobn, flags, err := h.exchange(k, nil, rights)
	if err != nil {
		return nil, err
	}
	fds, err := parseRights(rights[:oobn])
	if err == nil && len(fds) == 0 {
		// The kernel drops what exceeds the limit of open files (unix(7)).
		err = os.NewSyscallError("recvmsg", unix.EMFILE)
		if flags&unix.MSG_CTRUNC == 0 {
			err = fmt.Errorf("%w: no socket in its answer", errHelper)
		}
	}
	return fds, err
}

// addresses are those of the container's interfaces but for loopback.
func (h *helper) addresses() ([]netip.Addr, error) {
	if h.asked {
		return h.addrs, nil
	}
	text := make([]byte, most*len(netip.Addr{}.As16()))
	n, _, _, err := h.exchange(socketKind{family: askAddresses}, text, nil)
	if err != nil {
		return nil, err
	}
	for bytes := range slices.Chunk(text[:n], 16) {
		addr, _ := netip.AddrFromSlice(bytes)
		h.addrs = append(h.addrs, addr.Unmap())
	}
	h.asked = true
	return h.addrs, nil
}

// exchange is one request and its answer. The request is two bytes, family and
// kind. The answer is an errno, and sockets or addresses.
func (h *helper) exchange(k socketKind, body, rights []byte) (n, oobn, flags int, err error) {
	err = h.conn.SetDeadline(time.Now().Add(helperTimeout))
	if err == nil {
		_, err = h.conn.Write([]byte{k.family, k.kind})
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%w: %w", errHelper, err)
	}
	const head = 4
	answer := make([]byte, head+len(body))
	n, oobn, flags, _, err = h.conn.ReadMsgUnix(answer, rights)
	if err == nil && n < head {
		err = errors.New("it ended")
	}
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%w: %w", errHelper, err)
	}
	if errno := unix.Errno(binary.NativeEndian.Uint32(answer)); errno != 0 {
		return 0, 0, 0, os.NewSyscallError("socket", errno)
	}
	return copy(body, answer[head:n]), oobn, flags, nil
}

func parseRights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return unix.ParseUnixRights(&messages[0])
}

// close ends the helper, waits for it, and returns the last thing it said.
func (h *helper) close() (said string) {
	for _, fds := range h.spare {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	_ = h.conn.Close()
	kill := time.AfterFunc(helperGrace, func() { _ = h.cmd.Process.Kill() })
	_ = h.cmd.Wait() // how it ended matters less than what it said
	kill.Stop()
	h.container.close()
	return strings.TrimSpace(h.stderr.String())
}

// RunHelper is the helper process. It serves requests on descriptor 3 until
// the proxy is gone, and returns the exit status. Signals do not end it:
// systemd sends SIGTERM to all of a unit, and the proxy drains first.
func RunHelper() int {
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for fd := helperExe; fd <= helperUser; fd++ {
		unix.Close(fd)
	}
	// Nothing in the container may trace it, not even the user's own uid with
	// UserNS=keep-id, which has no fewer capabilities than the helper (ptrace(2)).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "%s: prctl: %v\n", filepath.Base(os.Args[0]), err)
		return 1
	}
	var request [2]byte
	for {
		n, err := unix.Read(helperConn, request[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
			return 1
		case n == 0:
			return 0
		default:
			reply := answer
			if request[0] == askAddresses {
				reply = answerAddresses
			}
			if err := reply(int(request[0]), int(request[1])); err != nil {
				return 1
			}
		}
	}
}

// answer makes a batch of sockets, or as many as can be had, and passes them.
func answer(family, kind int) error {
	var fds []int
	var errno unix.Errno
	for range batch {
		fd, err := ownNamespace{}.socket(family, kind)
		if err != nil {
			errors.As(err, &errno)
			break
		}
		defer unix.Close(fd)
		fds = append(fds, fd)
	}
	var rights []byte
	if len(fds) > 0 {
		errno, rights = 0, unix.UnixRights(fds...)
	}
	return unix.Sendmsg(helperConn, binary.NativeEndian.AppendUint32(nil, uint32(errno)), rights, nil, 0)
}

// answerAddresses passes the addresses on which an app may listen. Those of
// IPv6 that need a zone are left out.
func answerAddresses(int, int) error {
	addrs, err := net.InterfaceAddrs()
	var errno unix.Errno
	errors.As(err, &errno)
	reply := binary.NativeEndian.AppendUint32(nil, uint32(errno))
	for _, a := range addrs[:min(len(addrs), most)] {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		ip := prefix.Addr().As16()
		reply = append(reply, ip[:]...)
	}
	return unix.Sendmsg(helperConn, reply, nil, nil, 0)
}
