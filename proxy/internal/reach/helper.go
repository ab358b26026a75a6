package reach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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

// errHelper says that the helper does not work, and a new one might.
var errHelper = errors.New("namespace helper")

// helper is a process inside a container's network namespace that makes
// sockets there. Only one goroutine at a time may use it.
type helper struct {
	container *container
	conn      *net.UnixConn
	end       func() (said string) // waits for the process, if it is the proxy's own
	spare     map[socketKind][]int // sockets not used yet
	admission *admission           // nil if it is to be asked for
	clients   clients
	hurry     bool // it must not be waited for
}

func newHelper(conn *net.UnixConn) *helper {
	return &helper{conn: conn, spare: make(map[socketKind][]int), clients: newClients()}
}

// socketKind is what the helper is asked for: AF_INET and SOCK_STREAM for
// instance.
type socketKind struct{ family, kind byte }

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
func (h *helper) admit(udp []ports) (*admission, error) {
	if h.admission != nil {
		return h.admission, nil
	}
	body := make([]byte, admissionSize)
	n, _, _, err := h.exchange(appendPorts([]byte{askAdmit}, udp), body, nil)
	if err != nil {
		return nil, err
	}
	h.admission = parseAdmission(body[:n])
	return h.admission, nil
}

// change asks for a client's route, or for its end.
func (h *helper) change(what byte, client netip.Addr) error {
	_, _, _, err := h.exchange(append([]byte{what}, client.AsSlice()...), nil, nil)
	return err
}

// exchange is one request and its answer: an errno, and what was asked for, or
// why there is none.
func (h *helper) exchange(request, body, rights []byte) (n, oobn, flags int, err error) {
	if h.hurry {
		return 0, 0, 0, errSlow
	}
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
	if err = decodeErrno(answer); err != nil {
		err = fmt.Errorf("in the container's network: %w", err)
	}
	return copy(body, answer[head:n]), oobn, flags, err
}

func parseRights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	return unix.ParseUnixRights(&messages[0])
}

// close ends the helper and returns the last thing it said.
func (h *helper) close() (said string) {
	for _, fds := range h.spare {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	_ = h.conn.Close()
	if h.end != nil {
		said = h.end()
	}
	h.container.close()
	return said
}
