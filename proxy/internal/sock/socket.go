package sock

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

// Socket is a non-blocking stream socket. It is not a net.TCPConn because that can
// be made from a descriptor only by duplicating it (net.FileConn), and the
// descriptors here come from accept, from a helper process and from systemd.
type Socket struct {
	FD      int
	Release func() // called when it has been closed, if not nil
	Taken   int64  // bytes that were read before it was carried

	// In Go's poller from the first wait until LeavePoller. A connection that
	// need not be waited for before it is forwarded is never there.
	joining sync.Mutex
	file    *os.File
	raw     syscall.RawConn

	// The loop's while it carries the connection.
	Interest uint32 // events that it has asked for, 0: not in its epoll
	sendErr  error  // see Failed
	FinSent  bool   // we have ended, or are about to end, what we send
	FinRead  bool   // the peer has, and that has been handed on
}

// New takes over fd, which must be non-blocking: os.NewFile puts only
// such descriptors into the poller.
func New(fd int) *Socket { return &Socket{FD: fd} }

// Poller puts the socket into Go's poller.
func (s *Socket) Poller() (*os.File, syscall.RawConn) {
	s.joining.Lock()
	defer s.joining.Unlock()
	if s.file == nil {
		s.file = os.NewFile(uintptr(s.FD), "tcp")
		s.raw, _ = s.file.SyscallConn() // fails for a nil file only
	}
	return s.file, s.raw
}

// LeavePoller takes the socket out again: the poller would be woken by every
// byte that a loop carries. The way out is to close the descriptor, so the
// socket goes on with a duplicate.
func (s *Socket) LeavePoller() error {
	if s.file == nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(s.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	s.file.Close()
	s.FD, s.file, s.raw = fd, nil, nil
	return nil
}

// control runs f on the descriptor.
func (s *Socket) control(f func(fd int) error) error { return f(s.FD) }

// Failed keeps the error that the writer got, for EndOfInput. The first one
// tells most.
func (s *Socket) Failed(err error) {
	if s.sendErr == nil {
		s.sendErr = err
	}
}

// Waited is how long a client of TCP has waited since it said something, or came
// if it says nothing: the kernel counts from the handshake on (tcp(7), TCP_INFO;
// tcp_create_openreq_child in tcp_minisocks.c). Of others nothing is known.
func (s *Socket) Waited() time.Duration {
	info, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return time.Duration(info.Last_data_recv) * time.Millisecond
}

// EndOfInput tells the peer's FIN, io.EOF, from a reset whose error the writer
// got, once all that came has been read: that many bytes. The kernel reports a
// reset once, to whoever asks first (sock_error() in net/core/sock.c); if that was
// the writer, a read just ends. The writer then saw ECONNRESET, or EPIPE if the
// FIN had come first (tcp_reset() in net/ipv4/tcp_input.c) or if a splice(2) that
// moved a part had the error and kept it (splice_to_socket() in fs/splice.c).
func (s *Socket) EndOfInput(read int64) error {
	switch {
	case s.sendErr == nil:
		return io.EOF
	case !errors.Is(s.sendErr, unix.EPIPE):
		return s.sendErr
	case s.finCame(read):
		return io.EOF
	}
	return unix.ECONNRESET
}

// finCame reports whether the peer of a TCP connection has sent its FIN, after
// that many bytes: in tcpi_bytes_received it counts as one (tcp_rcv_nxt_update()
// in net/ipv4/tcp_input.c). Of a unix socket nothing is known, and it is taken to
// have.
func (s *Socket) finCame(read int64) bool {
	info, err := unix.GetsockoptTCPInfo(s.FD, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.Bytes_received > uint64(read+s.Taken)
}

// CloseWrite sends the FIN.
func (s *Socket) CloseWrite() error {
	s.FinSent = true
	return unix.Shutdown(s.FD, unix.SHUT_WR)
}

// Wake makes who waits for the socket, now or when they next do, return
// os.ErrDeadlineExceeded.
func (s *Socket) Wake() {
	file, _ := s.Poller()
	_ = file.SetDeadline(time.Unix(1, 0))
}

// Unwake takes it back.
func (s *Socket) Unwake() {
	file, _ := s.Poller()
	_ = file.SetDeadline(time.Time{})
}

// IsGone reports whether the connection has ended in both directions or was
// reset. A FIN alone does not count: a client may shut down its side and still
// wait for the answer. It leaves the socket's pending error where it is.
func IsGone(fd int) bool { return Ready(fd, 0) } // POLLERR and POLLHUP always report

// Ready reports whether there are events, without waiting. A pending signal (Go's scheduler sends
// them) interrupts even that.
func Ready(fd int, events int16) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, 0)
		if err != unix.EINTR {
			return err == nil && n > 0
		}
	}
}

// WaitGone returns true when the connection is gone, false when it was woken.
func (s *Socket) WaitGone() bool {
	_, raw := s.Poller()
	return raw.Read(func(fd uintptr) bool { return IsGone(int(fd)) }) == nil
}

// AwaitWord waits until the peer says something, ends, or d is over. The caller
// finds out which.
func (s *Socket) AwaitWord(d time.Duration) {
	file, raw := s.Poller()
	file.SetReadDeadline(time.Now().Add(d))
	_ = raw.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	file.SetReadDeadline(time.Time{})
}

// Unsent is how many bytes the peer's kernel has not acknowledged (SIOCOUTQ,
// tcp(7); TIOCOUTQ is the same number).
func (s *Socket) Unsent() (n int, gone bool) {
	err := s.control(func(fd int) error {
		gone = IsGone(fd)
		var err error
		n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		return err
	})
	return n, gone || err != nil
}

// Drain waits until the peer has all that was sent, or is gone, or takes
// nothing for drainStall, or ctx ends. There is no event for it, so it looks.
func (s *Socket) Drain(ctx context.Context) {
	last, since := -1, time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, gone := s.Unsent()
		if left == 0 || gone {
			return
		}
		if left != last {
			last, since = left, time.Now()
		}
		if time.Since(since) > drainStall || Rest(ctx, wait) != nil {
			return
		}
	}
}

// Reset closes with an RST instead of a FIN (SO_LINGER with no time,
// socket(7)). What was not delivered yet is lost; drain first.
func (s *Socket) Reset() {
	// A socket that is gone needs none.
	_ = unix.SetsockoptLinger(s.FD, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.Close()
}

// Close ends the connection in order; the kernel delivers what is left.
func (s *Socket) Close() {
	if s.file != nil {
		s.file.Close()
	} else {
		unix.Close(s.FD)
	}
	if s.Release != nil {
		s.Release()
	}
}

// Tune sends small messages at once and finds silent dead peers: the first
// probe after 30 s, dead after 6 unanswered ones, 90 s in all.
func Tune(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6},
	} {
		if err := SetOption(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// SetOption sets an option of a socket (setsockopt(2)).
func SetOption(fd, level, name, value int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value))
}

// Rest waits for d or until ctx ends, which is the error.
func Rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// SendDatagram sends on a connected socket. That nobody listens there is known
// when send returns if the other end is on this machine: the kernel delivers
// at once, and the ICMP message that comes of it too. So it costs no datagram
// to ask, or the one that meets an error that came late.
func (s *Socket) SendDatagram(b []byte) error {
	if _, err := send(s.FD, b); err != nil {
		return err
	}
	return s.PendingError()
}

// PendingError is the error that the next call on the socket would get.
func (s *Socket) PendingError() error {
	n, err := Option(s.FD, unix.SO_ERROR)
	if err == nil && n != 0 {
		err = unix.Errno(n)
	}
	return err
}
