package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errHelper says that the helper does not work, and a new one might.
var errHelper = errors.New("namespace helper")

// helper is a running helper process. Only one goroutine at a time may use it.
type helper struct {
	container *container
	cmd       *exec.Cmd
	stderr    bytes.Buffer
	conn      *net.UnixConn
	spare     map[socketKind][]int // sockets not used yet
	admission *admission           // nil if it is to be asked for
}

// socketKind is what the helper is asked for: AF_INET and SOCK_STREAM for
// instance.
type socketKind struct{ family, kind byte }

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
	_, oobn, flags, err := h.exchange([]byte{askSocket, k.family, k.kind}, nil, rights)
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

// admit asks once how clients can appear, until that is out of date.
func (h *helper) admit() (*admission, error) {
	if h.admission != nil {
		return h.admission, nil
	}
	body := make([]byte, admissionSize)
	n, _, _, err := h.exchange([]byte{askAdmit}, body, nil)
	if err != nil {
		return nil, err
	}
	h.admission = parseAdmission(body[:n])
	return h.admission, nil
}

// exchange is one request and its answer: an errno, and what was asked for.
func (h *helper) exchange(request, body, rights []byte) (n, oobn, flags int, err error) {
	err = h.conn.SetDeadline(time.Now().Add(helperTimeout))
	if err == nil {
		_, err = h.conn.Write(request)
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
	if err := decodeErrno(answer); err != nil {
		return 0, 0, 0, fmt.Errorf("in the container's network: %w", err)
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
