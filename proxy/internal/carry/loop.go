// Package carry takes bytes from one socket to another, for any number of pairs in
// a few loops, and ends one direction as the other side has ended it. It does not
// know where the sockets come from, nor who counts what it carries.
package carry

import (
	"encoding/binary"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// Loops carry the bytes of all pairs. Go's own poller would do with a
// goroutine for each direction, and cost twice the processor time for a small
// message (a wake-up by the scheduler, and a read that finds nothing) and twice
// the memory for an idle connection.
type Loops struct {
	pools
	all  []*Loop
	last atomic.Uint32
}

// maxLoops suffices for what one service can take on any machine.
const maxLoops = 4

// NewLoops starts one loop for each processor, but no more than maxLoops.
func NewLoops() (*Loops, error) {
	ls := new(Loops)
	for range min(maxLoops, runtime.GOMAXPROCS(0)) {
		l, err := newLoop(&ls.pools)
		if err != nil {
			ls.Close()
			return nil, err
		}
		ls.all = append(ls.all, l)
	}
	return ls, nil
}

// Another is one more loop, for something else than pairs. It is to be closed
// before the others.
func (ls *Loops) Another() (*Loop, error) { return newLoop(&ls.pools) }

// Next is the loop for the next pair.
func (ls *Loops) Next() *Loop { return ls.all[int(ls.last.Add(1))%len(ls.all)] }

// Cut ends all that is carried at once, and nothing is carried any more.
func (ls *Loops) Cut() {
	for _, l := range ls.all {
		l.Post(l.cut)
	}
}

// each calls f in the loops for what they carry, and again for each of its
// sockets, and waits for it. The loops must not have been closed.
func (ls *Loops) each(f func(carrier)) {
	var all sync.WaitGroup
	for _, l := range ls.all {
		all.Add(1)
		l.Post(func() {
			defer all.Done()
			l.each(f)
		})
	}
	all.Wait()
}

// Pairs calls f in the loops for the pairs, see each.
func (ls *Loops) Pairs(f func(*Pair)) {
	ls.each(func(c carrier) {
		if p, ok := c.(*Pair); ok {
			f(p)
		}
	})
}

// Close ends the loops, which must carry nothing any more.
func (ls *Loops) Close() {
	for _, l := range ls.all {
		l.Close()
	}
	ls.pipes.close()
}

// Loop carries the bytes of many pairs in one goroutine, which waits in an
// epoll(7) instance. It is level-triggered: what one turn leaves is reported
// again, so nothing is read only to find that there is no more.
type Loop struct {
	epoll *sock.Socket // in Go's poller
	ended chan struct{}

	mu      sync.Mutex
	carried map[int32]carrier // by descriptor
	posted  []func()
	bell    int  // an eventfd(2), -1 after the end
	isCut   bool // takes nothing more
	closed  bool

	*pools
}

// carrier is what has sockets in a loop.
type carrier interface {
	// Ready is called in the loop's goroutine when something has happened to
	// a socket.
	Ready(l *Loop, fd int, events uint32)
	// Cut is called there when it is to end at once; again for each of its
	// sockets.
	Cut()
}

func newLoop(shared *pools) (*Loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	bell, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epoll)
		return nil, os.NewSyscallError("eventfd", err)
	}
	l := &Loop{epoll: sock.New(epoll), bell: bell, ended: make(chan struct{}), carried: make(map[int32]carrier), pools: shared}
	err = os.NewSyscallError("fcntl", unix.SetNonblock(epoll, true)) // a Socket has to be
	if err == nil {
		err = l.control(unix.EPOLL_CTL_ADD, bell, unix.EPOLLIN)
	}
	if err != nil {
		unix.Close(bell)
		unix.Close(epoll)
		return nil, err
	}
	go l.run()
	return l, nil
}

func (l *Loop) control(op, fd int, events uint32) error {
	err := unix.EpollCtl(l.epoll.FD, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	return os.NewSyscallError("epoll_ctl", err)
}

// Close ends the goroutine and waits for it.
func (l *Loop) Close() {
	l.Post(func() { l.closed = true })
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	unix.Close(l.bell)
	l.bell = -1
	l.epoll.Close()
}

// Post has f called in the loop's goroutine, unless the loop has ended.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bell < 0 {
		return
	}
	l.posted = append(l.posted, f)
	one := binary.NativeEndian.AppendUint64(nil, 1)
	_, _ = unix.Write(l.bell, one) // EAGAIN: it rings already
}

// cut is for the loop to call.
func (l *Loop) cut() {
	l.mu.Lock()
	l.isCut = true
	l.mu.Unlock()
	l.each(carrier.Cut)
}

// each is for the loop to call, too. f may end what is carried.
func (l *Loop) each(f func(carrier)) {
	l.mu.Lock()
	all := slices.Collect(maps.Values(l.carried))
	l.mu.Unlock()
	for _, c := range all {
		f(c)
	}
}

// Add begins to carry sockets, with their interest as the events that are
// wanted. Until remove they belong to the goroutine. One of AwaitFirst is in the
// epoll instance already.
func (l *Loop) Add(c carrier, sockets ...*sock.Socket) error {
	l.mu.Lock() // the first event waits until all sockets are there
	defer l.mu.Unlock()
	if l.isCut {
		l.forget(sockets)
		return os.ErrDeadlineExceeded // as what was cut
	}
	for i, s := range sockets {
		if _, here := l.carried[int32(s.FD)].(*newcomer); !here {
			if err := l.control(unix.EPOLL_CTL_ADD, s.FD, s.Interest); err != nil {
				l.forget(sockets[:i])
				return err
			}
		}
		l.carried[int32(s.FD)] = c
	}
	return nil
}

// Remove ends the carrying of sockets.
func (l *Loop) Remove(sockets ...*sock.Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(sockets)
}

// release is remove for sockets that are closed next: that takes them out of the
// epoll instance (epoll(7)).
func (l *Loop) release(sockets ...*sock.Socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range sockets {
		delete(l.carried, int32(s.FD))
	}
}

func (l *Loop) forget(sockets []*sock.Socket) {
	for _, s := range sockets {
		delete(l.carried, int32(s.FD))
		_ = l.Watch(s, 0) // nothing but what is not there fails to go
	}
}

// Watch changes the events that are wanted of a socket. With none it leaves
// the epoll instance, which would report EPOLLHUP without being asked, over
// and over.
func (l *Loop) Watch(s *sock.Socket, events uint32) error {
	op := unix.EPOLL_CTL_MOD
	switch {
	case events == s.Interest:
		return nil
	case events == 0:
		op = unix.EPOLL_CTL_DEL
	case s.Interest == 0:
		op = unix.EPOLL_CTL_ADD
	}
	err := l.control(op, s.FD, events)
	if err == nil {
		s.Interest = events
	}
	return err
}

// run waits in Go's poller for the epoll instance, which is a file like any
// other (epoll(7)). A thread that waits in epoll_wait(2) itself would have the
// runtime look for its processor every 20 µs (sysmon in runtime/proc.go).
func (l *Loop) run() {
	defer close(l.ended)
	_, raw := l.epoll.Poller()
	_ = raw.Read(func(fd uintptr) bool { // fails only when it is closed, after the end
		var events [128]unix.EpollEvent
		for !l.closed {
			n, _ := sock.EpollNow(int(fd), events[:])
			if n <= 0 {
				return false
			}
			for _, e := range events[:n] {
				l.dispatch(e)
			}
		}
		return true
	})
}

func (l *Loop) dispatch(e unix.EpollEvent) {
	if int(e.Fd) == l.bell {
		l.answer()
		return
	}
	l.mu.Lock()
	c := l.carried[e.Fd]
	l.mu.Unlock()
	if c != nil { // else it ended a moment ago
		c.Ready(l, int(e.Fd), e.Events)
	}
}

// answer calls what was posted.
func (l *Loop) answer() {
	var count [8]byte
	_, _ = unix.Read(l.bell, count[:])
	l.mu.Lock()
	posted := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range posted {
		f()
	}
}
