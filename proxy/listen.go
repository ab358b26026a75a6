package proxy

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// acceptPause is how long accepting rests when there is nothing left to accept
// with. The clients wait in the kernel's backlog.
const acceptPause = 50 * time.Millisecond

// listener is one socket that systemd listens on.
type listener struct {
	*sock.Socket
	forward wire.Forward
	// emptied tells that the backlog was empty once. Clients that had come
	// before the options were set, the one that woke us first of all, have
	// inherited none of them.
	emptied bool
	last    bool // accept does not wait any more: EAGAIN
	// loop is closed when who accepts has ended.
	loop chan struct{}
	// lent says that the stand-in has the socket, too, and can have accept(2) wait
	// for a client: whether it does is a flag of what both have (fcntl(2)). Nobody
	// waits for that for long. abandoned is set when it was for too long.
	lent      bool
	abandoned atomic.Bool
}

// newListeners turns the passed descriptors into listeners. Two sockets may share a
// forward: an IPv4 and an IPv6 one for the same port. A forward whose socket
// was not passed is returned in missing: systemd does not open an added port
// before the socket unit is restarted.
func newListeners(files []*os.File, forwards []wire.Forward) (ls []*listener, missing []wire.Forward, err error) {
	defer func() {
		if err != nil {
			closeAll(ls)
		}
	}()
	if len(files) == 0 && slices.ContainsFunc(forwards, func(f wire.Forward) bool { return f.Listen.Device == "" }) {
		return nil, nil, fmt.Errorf("%w: no socket was passed; start the socket unit instead", wire.ErrConfig)
	}
	used := make(map[wire.Address]bool)
	for _, file := range files {
		l, err := newListener(file, forwards)
		if err != nil {
			return ls, nil, fmt.Errorf("%w: passed socket %s: %w", wire.ErrConfig, file.Name(), err)
		}
		ls = append(ls, l)
		used[l.forward.Listen] = true
	}
	for _, f := range forwards {
		if !used[f.Listen] && f.Listen.Device == "" { // else the stand-in brings it
			missing = append(missing, f)
		}
	}
	return ls, missing, nil
}

// newListener checks one descriptor and finds its forward. It works on a
// duplicate: the one in file is not in Go's poller. Closing either leaves
// systemd's own descriptor listening; a shutdown(2) would not, so there is
// none anywhere on a listener.
func newListener(file *os.File, forwards []wire.Forward) (*listener, error) {
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	addr, err := sock.ListeningAddress(fd)
	var forward wire.Forward
	if err == nil {
		forward, err = prepare(fd, addr, forwards)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &listener{Socket: sock.New(fd), forward: forward}, nil
}

// prepare finds the forward of a listening socket, and sets the options on it, from
// which accepted ones inherit them: that saves five system calls for each
// connection.
func prepare(fd int, addr wire.Address, forwards []wire.Forward) (wire.Forward, error) {
	var err error
	switch addr.Network {
	case wire.TCP:
		err = sock.Tune(fd)
	case wire.UDP:
		err = passAddress(fd)
	}
	if err != nil {
		return wire.Forward{}, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return wire.Forward{}, err
	}
	for _, f := range forwards {
		if f.Listen == addr.ListenKey() {
			return f, nil
		}
	}
	return wire.Forward{}, fmt.Errorf("no --forward= for %s", addr)
}

func closeAll(ls []*listener) {
	for _, l := range ls {
		l.Close()
	}
}

// accept waits for a connection, which is counted in the rooms. It fails with
// os.ErrDeadlineExceeded when woken, with noRoom, and with the error of
// accept(2) otherwise.
func (l *listener) accept(all, held slots) (fd int, peer wire.Address, err error) {
	var sa unix.Sockaddr
	_, raw := l.Poller()
	e := raw.Read(func(lfd uintptr) bool {
		if err = enterBoth(all, held); err != nil {
			return true
		}
		defer func() {
			if err != nil {
				all.leave()
				held.leave()
			}
		}()
		for {
			fd, sa, err = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			// The client gave up in the backlog, or a signal came.
			if err != unix.ECONNABORTED && err != unix.EINTR {
				l.emptied = l.emptied || err == unix.EAGAIN
				return l.last || err != unix.EAGAIN
			}
		}
	})
	if e != nil {
		return -1, wire.Address{}, e
	}
	if full := (noSlot{}); errors.As(err, &full) {
		return -1, wire.Address{}, err
	}
	if err != nil {
		return -1, wire.Address{}, os.NewSyscallError("accept4", err)
	}
	if !l.emptied && l.forward.Listen.Network == wire.TCP {
		err = sock.Tune(fd)
	}
	if err != nil {
		unix.Close(fd)
		all.leave()
		held.leave()
		return -1, wire.Address{}, err
	}
	return fd, sock.Address(l.forward.Listen.Network, sa), nil
}
