package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainStall is how long a socket that is to be reset may make no progress in
// delivering what was sent before the reset goes out anyway.
const drainStall = 10 * time.Second

// socket is a non-blocking stream socket. It is not a net.TCPConn because that can
// be made from a descriptor only by duplicating it (net.FileConn), and the
// descriptors here come from accept, from a helper process and from systemd.
type socket struct {
	fd      int
	release func() // called when it has been closed, if not nil

	// In Go's poller from the first wait until leavePoller. A connection that
	// need not be waited for before it is forwarded is never there.
	joining sync.Mutex
	file    *os.File
	raw     syscall.RawConn

	// The loop's while it carries the connection.
	interest uint32 // events that it has asked for, 0: not in its epoll
	sendErr  error  // see failed
	finSent  bool   // we have ended, or are about to end, what we send
	finRead  bool   // the peer has, and that has been handed on
}

// newSocket takes over fd, which must be non-blocking: os.NewFile puts only
// such descriptors into the poller.
func newSocket(fd int) *socket { return &socket{fd: fd} }

// poller puts the socket into Go's poller.
func (s *socket) poller() (*os.File, syscall.RawConn) {
	s.joining.Lock()
	defer s.joining.Unlock()
	if s.file == nil {
		s.file = os.NewFile(uintptr(s.fd), "tcp")
		s.raw, _ = s.file.SyscallConn() // fails for a nil file only
	}
	return s.file, s.raw
}

// leavePoller takes the socket out again: the poller would be woken by every
// byte that a loop carries. The way out is to close the descriptor, so the
// socket goes on with a duplicate.
func (s *socket) leavePoller() error {
	if s.file == nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	s.file.Close()
	s.fd, s.file, s.raw = fd, nil, nil
	return nil
}

// control runs f on the descriptor.
func (s *socket) control(f func(fd int) error) error { return f(s.fd) }

// failed keeps the error that the writer got, for endOfInput. The first one
// tells most.
func (s *socket) failed(err error) {
	if s.sendErr == nil {
		s.sendErr = err
	}
}

// endOfInput tells the peer's FIN, io.EOF, from a reset whose error the writer
// got. The kernel reports a reset once, to whoever asks first (sock_error() in
// net/core/sock.c); if that was the writer, a read just ends. The writer then
// saw ECONNRESET. After a FIN it sees EPIPE instead (tcp_reset() in
// net/ipv4/tcp_input.c), and the input did end well.
func (s *socket) endOfInput() error {
	if s.sendErr != nil && !errors.Is(s.sendErr, unix.EPIPE) {
		return s.sendErr
	}
	return io.EOF
}

// closeWrite sends the FIN.
func (s *socket) closeWrite() error {
	s.finSent = true
	return unix.Shutdown(s.fd, unix.SHUT_WR)
}

// wake makes who waits for the socket, now or when they next do, return
// os.ErrDeadlineExceeded.
func (s *socket) wake() {
	file, _ := s.poller()
	_ = file.SetDeadline(time.Unix(1, 0))
}

// unwake takes it back.
func (s *socket) unwake() {
	file, _ := s.poller()
	_ = file.SetDeadline(time.Time{})
}

// isGone tells whether the connection has ended in both directions or was
// reset. A FIN alone does not count: a client may shut down its side and still
// wait for the answer. It leaves the socket's pending error where it is.
func isGone(fd int) bool { return has(fd, 0) } // POLLERR and POLLHUP always report

// has asks for events without waiting. A pending signal (Go's scheduler sends
// them) interrupts even that.
func has(fd int, events int16) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// waitGone returns true when the connection is gone, false when it was woken.
func (s *socket) waitGone() bool {
	_, raw := s.poller()
	return raw.Read(func(fd uintptr) bool { return isGone(int(fd)) }) == nil
}

// awaitWord waits until the peer says something, ends, or d is over. The caller
// finds out which.
func (s *socket) awaitWord(d time.Duration) {
	file, raw := s.poller()
	file.SetReadDeadline(time.Now().Add(d))
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	file.SetReadDeadline(time.Time{})
}

// unsent is how many bytes the peer's kernel has not acknowledged (SIOCOUTQ,
// tcp(7); TIOCOUTQ is the same number).
func (s *socket) unsent() (n int, gone bool) {
	err := s.control(func(fd int) error {
		gone = isGone(fd)
		var err error
		n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		return err
	})
	return n, gone || err != nil
}

// drain waits until the peer has all that was sent, or is gone, or takes
// nothing for drainStall, or ctx ends. There is no event for it, so it looks.
func (s *socket) drain(ctx context.Context) {
	last, since := -1, time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, gone := s.unsent()
		if left == 0 || gone {
			return
		}
		if left != last {
			last, since = left, time.Now()
		}
		if time.Since(since) > drainStall || rest(ctx, wait) != nil {
			return
		}
	}
}

// reset closes with an RST instead of a FIN (SO_LINGER with no time,
// socket(7)). What was not delivered yet is lost; drain first.
func (s *socket) reset() {
	// A socket that is gone needs none.
	_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.close()
}

// close ends the connection in order; the kernel delivers what is left.
func (s *socket) close() {
	if s.file != nil {
		s.file.Close()
	} else {
		unix.Close(s.fd)
	}
	if s.release != nil {
		s.release()
	}
}

// tune sends small messages at once and finds silent dead peers: the first
// probe after 30 s, dead after 6 unanswered ones, 90 s in all.
func tune(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6},
	} {
		if err := setOption(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

func setOption(fd, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
}

// rest waits for d or until ctx ends, which is the error.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendDatagram sends on a connected socket. That nobody listens there is known
// when send returns if the other end is on this machine: the kernel delivers
// at once, and the ICMP message that comes of it too. So it costs no datagram
// to ask, or the one that meets an error that came late.
func (s *socket) sendDatagram(b []byte) error {
	if _, err := send(s.fd, b); err != nil {
		return err
	}
	return s.pendingError()
}

// pendingError is the error that the next call on the socket would get.
func (s *socket) pendingError() error {
	n, err := sockopt(s.fd, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}
