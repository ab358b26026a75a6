package reach

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// HelperArg as the only argument makes the program the helper that makes
// sockets in the network namespace it is started in.
const HelperArg = "--netns-helper"

// The descriptors of a helper and of the nsenter(1) that becomes it.
const (
	helperConn = 3 + iota
	helperExe
	helperNet
	helperUser
)

// nsenter is the way into a container of the proxy's own user. Entering the
// user namespace that owns the network is refused to a process with several
// threads (setns(2)), and a Go program has several. So nsenter(1) enters and
// then becomes this program again.
type nsenter struct{ whereabouts }

func (n *nsenter) close() {}

func (n *nsenter) enter() (*helper, error) {
	c, err := openContainer(n.whereabouts)
	if err != nil {
		return nil, err
	}
	h, err := startHelper(c)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%w: %w", errHelper, err)
	}
	return h, nil
}

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
	var stderr bytes.Buffer
	cmd := nsenterCommand(c, theirs, exe)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		_ = ours.Close()
		return nil, err
	}
	h := newHelper(ours)
	h.container = c
	h.end = func() string {
		kill := time.AfterFunc(helperGrace, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = cmd.Wait() // how it ended matters less than what it said
		return strings.TrimSpace(stderr.String())
	}
	return h, nil
}

// nsenterCommand enters the container's namespaces and becomes
// the helper. It keeps its uid and gids: root of the namespace is not needed,
// and some mappings have none.
func nsenterCommand(c *container, conn, exe *os.File) *exec.Cmd {
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
