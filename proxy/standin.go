package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// On a network, a stand-in has the container's names: a container of one process,
// which listens there. When a client comes, it connects to a socket of systemd's,
// which starts the proxy, and passes its listening sockets. The proxy accepts from
// them like from its own. When it has gone, the stand-in waits for the next client.
// One that was started anew has other sockets, and brings them with its next client.

// lentPatience is how long accept may take to end on a socket that the stand-in has,
// too.
const lentPatience = time.Second

// handOverTime is how long a stand-in may take to pass what it has connected for.
const handOverTime = time.Second

// standIn is where the stand-in connects.
type standIn struct {
	*sock.Socket
	unit     *reach.Cgroup
	forwards []wire.Forward // whose sockets it has
	blocks   atomic.Bool    // it has had accept wait: nothing is taken from it any more
}

// newStandIn finds the socket among the passed files, and closes its file. It is
// nil if the container has no stand-in.
func newStandIn(cfg wire.Config, files []*os.File) (*standIn, []*os.File, error) {
	if cfg.StandIn == "" {
		return nil, files, nil
	}
	i := slices.IndexFunc(files, func(f *os.File) bool { return isAt(f, cfg.StandIn) })
	if i < 0 {
		return nil, files, fmt.Errorf("%w: no socket was passed for %s; start the socket unit instead", wire.ErrConfig, cfg.StandIn)
	}
	defer files[i].Close()
	fd, err := unix.FcntlInt(files[i].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, files, err
	}
	name, _ := wire.Container.Name(cfg.Container)
	s := &standIn{Socket: sock.New(fd), unit: reach.NewCgroup(wire.StandIn.Of(name))}
	for _, f := range cfg.Forwards {
		if f.Listen.Device != "" {
			s.forwards = append(s.forwards, f)
		}
	}
	return s, slices.Delete(slices.Clone(files), i, i+1), nil
}

// isAt reports whether a file is the listening socket of a path for messages, as
// the stand-in's is: those for clients are streams.
func isAt(f *os.File, path string) bool {
	kind, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return false
	}
	local, err := unix.Getsockname(int(f.Fd()))
	at, ok := local.(*unix.SockaddrUnix)
	return err == nil && ok && at.Name == path
}

// takeStandIn serves the stand-in, and the next one should it be started anew,
// until the proxy ends.
func (s *server) takeStandIn() {
	defer context.AfterFunc(s.hard, s.standIn.Wake)()
	leave := func() {}
	for {
		conn, err := s.standIn.accept()
		if carry.IsWoken(err) {
			return
		}
		var ls []*listener
		if err == nil {
			ls, err = s.standIn.receive(conn)
			if err == nil && s.standIn.blocks.Load() {
				closeAll(ls)
				err = errors.New("it holds up who accepts from them")
			}
			if err != nil {
				conn.Close()
			}
		}
		if err != nil {
			s.record.Retrying(fmt.Errorf("no sockets of the stand-in: %w", err))
		} else {
			leave() // the former one
			leave = s.join(conn, ls)
		}
		if sock.Rest(s.hard, acceptPause) != nil { // whatever it does, it costs little
			return
		}
	}
}

// join has clients accepted from a stand-in's sockets until it hangs up, or leave
// is called.
func (s *server) join(conn *sock.Socket, ls []*listener) (leave func()) {
	s.add(ls)
	stop := context.AfterFunc(s.hard, conn.Wake)
	gone := make(chan struct{})
	s.background(func() {
		defer close(gone)
		conn.WaitGone()
		stop()
		s.remove(ls)
		conn.Close()
	})
	return func() {
		conn.Wake()
		<-gone
	}
}

// awaitLent waits until nothing is accepted from the stand-in's sockets.
func (s *server) awaitLent() {
	s.listening.Lock()
	all := s.listeners
	s.listening.Unlock()
	var blocked []*listener
	for _, l := range all {
		if l.lent && !s.ended(l) {
			blocked = append(blocked, l)
		}
	}
	s.listening.Lock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool { return slices.Contains(blocked, l) })
	s.listening.Unlock()
}

// ended waits until nothing is accepted any more from a socket of the stand-in. One
// that has accept wait is left to that, and is closed when it has ended.
func (s *server) ended(l *listener) bool {
	if l.loop == nil {
		return true
	}
	timer := time.NewTimer(lentPatience)
	defer timer.Stop()
	select {
	case <-l.loop:
		return true
	case <-timer.C:
		l.abandoned.Store(true)
		if s.standIn.blocks.CompareAndSwap(false, true) {
			s.record.Warn("the stand-in holds up who accepts from its sockets: none is taken from it any more, until the proxy is started anew")
		}
		return false
	}
}

// accept waits for a stand-in, and fails with os.ErrDeadlineExceeded when woken.
// Who is not in its unit is not heard.
func (s *standIn) accept() (*sock.Socket, error) {
	fd, err := -1, error(nil)
	_, raw := s.Poller()
	e := raw.Read(func(listening uintptr) bool {
		fd, _, err = unix.Accept4(int(listening), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
	})
	if e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("accept4", err)
	}
	conn := sock.New(fd)
	if err := s.unit.HoldsPeer(fd, "has connected"); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// receive takes what a stand-in has connected for: all its sockets at once, each
// for one of the forwards.
func (s *standIn) receive(conn *sock.Socket) ([]*listener, error) {
	fds, err := s.message(conn)
	if err != nil {
		return nil, err
	}
	var ls []*listener
	for i, fd := range fds {
		l, err := s.listener(fd)
		if err == nil && slices.ContainsFunc(ls, func(other *listener) bool { return other.forward == l.forward }) {
			err = fmt.Errorf("two for %s", l.forward.Listen)
		}
		if err != nil {
			closeAll(ls)
			for _, fd := range fds[i:] {
				unix.Close(fd)
			}
			return nil, err
		}
		ls = append(ls, l)
	}
	return ls, nil
}

// message reads one, and the descriptors that come with it.
func (s *standIn) message(conn *sock.Socket) (fds []int, err error) {
	file, raw := conn.Poller()
	_ = file.SetReadDeadline(time.Now().Add(handOverTime))
	defer conn.Unwake()
	data, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4*len(s.forwards)))
	n, flags := 0, 0
	e := raw.Read(func(fd uintptr) bool {
		_, n, flags, _, err = unix.Recvmsg(int(fd), data, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if e != nil {
		return nil, e
	}
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	for i := range messages {
		some, e := unix.ParseUnixRights(&messages[i])
		fds, err = append(fds, some...), errors.Join(err, e)
	}
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0:
		err = errors.New("there are more than it has ports")
	case len(fds) == 0:
		err = errors.New("there are none")
	}
	if err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, err
	}
	return fds, nil
}

// listener is a socket that a stand-in has passed, if it is one for clients of one
// of the forwards: it takes TCP connections on that port and interface.
func (s *standIn) listener(fd int) (*listener, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	addr, err := sock.ListeningAddress(fd)
	if err != nil {
		return nil, err
	}
	if protocol != unix.IPPROTO_TCP || !addr.IP.Addr().IsUnspecified() {
		return nil, fmt.Errorf("%s is no port of every address", addr)
	}
	device, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	forward, err := prepare(fd, wire.StandInAddress(strings.TrimRight(device, "\x00"), addr.IP.Port()), s.forwards)
	if err != nil {
		return nil, err
	}
	return &listener{Socket: sock.New(fd), forward: forward, lent: true}, nil
}
