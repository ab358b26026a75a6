package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainStall is how long a socket that is to be reset may make no progress in
// delivering what was sent before the reset goes out anyway.
const drainStall = 10 * time.Second

// socket is a non-blocking TCP socket that waits in Go's poller. It is not a
// net.TCPConn because that can be made from a descriptor only by duplicating
// it (net.FileConn), and the descriptors here come from accept, from a helper
// process and from systemd.
type socket struct {
	file *os.File
	raw  syscall.RawConn

	// sending covers a write together with the note of its error; see
	// endOfInput.
	sending sync.Mutex
	sendErr error

	finSent atomic.Bool // we have ended, or are about to end, what we send
}

// newSocket takes over fd, which must be non-blocking: os.NewFile puts only
// such descriptors into the poller.
func newSocket(fd int) (*socket, error) {
	s := &socket{file: os.NewFile(uintptr(fd), "tcp")}
	raw, err := s.file.SyscallConn()
	if err != nil {
		s.file.Close()
		return nil, err
	}
	s.raw = raw
	return s, nil
}

// control runs f on the descriptor.
func (s *socket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// receive reads what is there, like recv(2). At the end of input the error is
// io.EOF or what ended it.
func (s *socket) receive(fd int, b []byte, flags int) (int, error) {
	n, err := s.read(fd, b, flags)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, s.endOfInput()
	default:
		return n, nil
	}
}

func (s *socket) read(fd int, b []byte, flags int) (int, error) {
	if flags == 0 {
		return unix.Read(fd, b) // half the cost of recvfrom with an address
	}
	n, _, err := unix.Recvfrom(fd, b, flags)
	return n, err
}

// send writes what fits now, like send(2).
func (s *socket) send(fd int, b []byte) (int, error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	n, err := unix.Write(fd, b)
	if err == nil {
		return n, nil
	}
	if err != unix.EAGAIN {
		s.sendErr = err
	}
	return 0, err
}

// endOfInput tells the peer's FIN from a reset whose error somebody else got.
// The kernel reports a reset once, to whoever asks first (sock_error() in
// net/core/sock.c); if that was the writer, a read just ends. The writer then
// saw ECONNRESET. After a FIN it sees EPIPE instead (tcp_reset() in
// net/ipv4/tcp_input.c), and the input did end well.
func (s *socket) endOfInput() error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.sendErr != nil && !errors.Is(s.sendErr, unix.EPIPE) {
		return s.sendErr
	}
	return io.EOF
}

// closeWrite sends the FIN.
func (s *socket) closeWrite() error {
	s.finSent.Store(true)
	return s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// wakeReader makes the reader, now or when it next waits, return
// os.ErrDeadlineExceeded.
func (s *socket) wakeReader() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) }

// wake does so to reader and writer.
func (s *socket) wake() { _ = s.file.SetDeadline(time.Unix(1, 0)) }

// unwake takes both back.
func (s *socket) unwake() { _ = s.file.SetDeadline(time.Time{}) }

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

// waitGone returns true when the connection is gone, false when the reader was
// woken.
func (s *socket) waitGone() bool {
	return s.raw.Read(func(fd uintptr) bool { return isGone(int(fd)) }) == nil
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
		if time.Since(since) > drainStall || sleep(ctx, wait) != nil {
			return
		}
	}
}

// reset closes with an RST instead of a FIN (SO_LINGER with no time,
// socket(7)). What was not delivered yet is lost; drain first.
func (s *socket) reset() {
	_ = s.control(func(fd int) error { // a socket that is gone needs none
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	s.file.Close()
}

// close ends the connection in order; the kernel delivers what is left.
func (s *socket) close() { s.file.Close() }

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
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("setsockopt: %w", err)
		}
	}
	return nil
}

// addrPort reads a socket address; it is zero for anything but IP.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	default:
		return netip.AddrPort{}
	}
}

// sleep waits for d or until ctx ends, which is the error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
