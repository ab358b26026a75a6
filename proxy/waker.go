package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Wakened is the waker: whoever has connected to the passed socket learns that the
// container's start is over. systemd has seen to that before.
func Wakened(files []*os.File) error {
	for _, file := range files {
		fd := int(file.Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		for {
			conn, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			switch err {
			case nil:
				_, _ = unix.Write(conn, []byte{wakened}) // it may be gone
				unix.Close(conn)
			case unix.ECONNABORTED, unix.EINTR:
			case unix.EAGAIN:
				return file.Close()
			default:
				return os.NewSyscallError("accept4", err)
			}
		}
	}
	return nil
}

// wakened is all that the waker says.
const wakened = 'w'

// ask has the container started, and returns when its start is over.
func (s *starter) ask(ctx context.Context) error {
	if filepath.IsAbs(s.unit) {
		return askWaker(ctx, s.unit)
	}
	return askManager(ctx, s.unit)
}

// askWaker connects to the waker's socket: that starts it.
func askWaker(ctx context.Context, path string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	word := make([]byte, 1)
	switch n, err := conn.Read(word); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case n == 0 && (err == nil || errors.Is(err, io.EOF)): // systemd has closed the socket
		return errors.New("the waker did not start")
	case err != nil:
		return fmt.Errorf("the waker: %w", err)
	}
	return nil
}
