package carry

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// pools are what flows borrow for as long as they have bytes that the receiver
// has not taken.
type pools struct {
	buffers buffers
	pipes   pipes
}

// bufferSize is what one direction of one connection holds in a buffer at most.
const bufferSize = 64 << 10

// Buffer is one of them.
type Buffer [bufferSize]byte

// buffers lends buffers.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *Buffer {
	if buf, ok := b.pool.Get().(*Buffer); ok {
		return buf
	}
	return new(Buffer)
}

func (b *buffers) put(buf *Buffer) { b.pool.Put(buf) }

const (
	// pipeSize is what a pipe holds at most, in bytes: what an unprivileged
	// process gets unless pipe-max-size is changed (pipe(7)). Against 256 KiB
	// it saves a tenth of the processor time.
	pipeSize = 1 << 20
	// maxPipes bounds the pipes of a process. All of a user's pipes together
	// may have 16,384 pages (pipe-user-pages-soft, pipe(7)), other proxies'
	// too; these have 2,048.
	maxPipes = 8
)

// pipe takes bytes from one socket to another without copying them (splice(2)).
type pipe struct{ r, w int }

// fill moves what is there from a socket into the empty pipe.
func (p *pipe) fill(fd int) (int, error) { return sock.Splice(fd, p.w, pipeSize) }

// empty moves n bytes, or what the socket takes now, out of the pipe.
func (p *pipe) empty(fd, n int) (int, error) { return sock.Splice(p.r, fd, n) }

// pipes lends pipes.
type pipes struct {
	mu    sync.Mutex
	idle  []*pipe
	count int
}

// get returns nil if there is none to be had.
func (ps *pipes) get() *pipe {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if last := len(ps.idle) - 1; last >= 0 {
		p := ps.idle[last]
		ps.idle = ps.idle[:last]
		return p
	}
	if ps.count == maxPipes {
		return nil
	}
	p, err := newPipe()
	if err != nil {
		return nil // out of descriptors; a buffer does as well
	}
	ps.count++
	return p
}

// put takes a pipe back, which is of use only if it is empty.
func (ps *pipes) put(p *pipe, empty bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if empty {
		ps.idle = append(ps.idle, p)
		return
	}
	ps.count--
	p.close()
}

// close ends the idle pipes. There must be no others.
func (ps *pipes) close() {
	for _, p := range ps.idle {
		p.close()
	}
}

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	// A smaller pipe is slower and no error: the user may have no pages left.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{fds[0], fds[1]}, nil
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
