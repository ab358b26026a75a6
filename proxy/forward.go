package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// bufferSize is what one direction of one connection holds at most, and only
// while it has bytes that the receiver has not taken.
const bufferSize = 64 << 10

// buffers lends buffers to flows.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() *[bufferSize]byte {
	if buf, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buf
	}
	return new([bufferSize]byte)
}

func (b *buffers) put(buf *[bufferSize]byte) { b.pool.Put(buf) }

// pair is a client and its connection to the app.
type pair struct {
	client, backend *socket
	up, down        flow
	finished        atomic.Int32 // flows that copy no more
}

// flow is one direction of a pair.
type flow struct {
	pair     *pair
	src, dst *socket
	buffers  *buffers
	total    *atomic.Int64 // bytes sent, of all pairs
	sent     int64         // bytes sent, of this flow
	onFirst  func()        // called once the source has said something, or its FIN

	// How the flow ended: both nil if the FIN was handed on.
	srcErr, dstErr error

	// The chunk under way. buf is nil while there is none: an idle connection
	// holds no buffer.
	buf        *[bufferSize]byte
	have, done int
	flags      int // of recv(2)
	err        error
}

// newPair joins a client and a backend. answered is called once, when the
// backend's first byte or its FIN has come.
func newPair(client, backend *socket, b *buffers, a *activity, answered func()) *pair {
	p := &pair{client: client, backend: backend}
	// The client's first bytes stay in the kernel until the backend's kernel
	// has them, so that another backend can still get them.
	p.up = flow{pair: p, src: client, dst: backend, buffers: b, total: &a.in, flags: unix.MSG_PEEK}
	p.down = flow{pair: p, src: backend, dst: client, buffers: b, total: &a.out, onFirst: answered}
	return p
}

// run forwards until both directions have ended. The end of ctx is the end of
// both. It leaves both sockets open.
func (p *pair) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.client.wake()
		p.backend.wake()
	})
	defer stop()
	var up sync.WaitGroup
	up.Go(p.up.run)
	p.down.run()
	up.Wait()
}

// unheard tells whether the backend reset the connection before it took or
// said anything, while the client is still there and has lost nothing.
func (p *pair) unheard() bool {
	backend := errors.Join(p.down.srcErr, p.up.dstErr)
	client := errors.Join(p.up.srcErr, p.down.dstErr)
	return p.up.sent == 0 && p.down.sent == 0 && isReset(backend) && (client == nil || isWoken(client))
}

// finish closes both sockets: with a FIN if both directions ended with one,
// else with a reset, but only after each peer has what was sent to it.
func (p *pair) finish(ctx context.Context) {
	if errors.Join(p.up.srcErr, p.up.dstErr, p.down.srcErr, p.down.dstErr) == nil {
		p.client.close()
		p.backend.close()
		return
	}
	p.client.drain(ctx)
	p.backend.drain(ctx)
	p.client.reset()
	p.backend.reset()
}

func isWoken(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// run copies, and sees to it that the other direction ends when it must:
//   - The source is gone: what the other direction carries can reach nobody.
//   - The destination is gone: it may have sent something first, a complete
//     answer perhaps, and the other direction delivers that before it meets
//     the end by itself.
//   - The source's FIN is handed on: the other direction goes on for as long
//     as it likes, unless the source turns out to be gone altogether. That
//     comes as a reset, or as the answer to a keepalive probe.
func (f *flow) run() {
	f.copy()
	last := f.pair.finished.Add(1) == 2
	if last {
		f.dst.wakeReader() // the other direction may be watching it
		return
	}
	if f.srcErr == nil && f.dstErr == nil && f.src.waitGone() && !f.src.finSent.Load() {
		f.srcErr = unix.ECONNRESET
	}
	if f.srcErr != nil {
		f.dst.wakeReader()
	}
}

// copy moves chunks until one end fails or the source's FIN is handed on.
func (f *flow) copy() {
	fill, flush := f.fill, f.flush // one closure each for all chunks
	for {
		if err := f.wait(f.src, fill); err != nil {
			f.first(err)
			if errors.Is(err, io.EOF) {
				f.dstErr = f.dst.closeWrite()
			} else {
				f.srcErr = err
			}
			return
		}
		f.first(nil)
		f.dstErr = f.wait(f.dst, flush)
		if f.flags != 0 {
			f.srcErr = f.consume()
		}
		f.buffers.put(f.buf)
		f.buf = nil
		if f.srcErr != nil || f.dstErr != nil {
			return
		}
	}
}

// wait runs step when the socket may be ready, until the step is done.
func (f *flow) wait(s *socket, step func(fd uintptr) bool) error {
	f.err = nil
	poll := s.raw.Read
	if s == f.dst {
		poll = s.raw.Write
	}
	if err := poll(step); err != nil {
		return err
	}
	return f.err
}

func (f *flow) first(err error) {
	if f.onFirst != nil && (err == nil || errors.Is(err, io.EOF)) {
		f.onFirst()
		f.onFirst = nil
	}
}

// fill reads the next chunk into a borrowed buffer. With nothing to read it
// gives the buffer back before it waits.
func (f *flow) fill(fd uintptr) bool {
	buf := f.buffers.get()
	n, err := f.src.receive(int(fd), buf[:], f.flags)
	if err != nil {
		f.buffers.put(buf)
		if err == unix.EAGAIN {
			return false
		}
		f.err = err
		return true
	}
	f.buf, f.have, f.done = buf, n, 0
	return true
}

// flush writes the chunk.
func (f *flow) flush(fd uintptr) bool {
	for f.done < f.have {
		n, err := f.dst.send(int(fd), f.buf[f.done:f.have])
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			f.err = err
			return true
		}
		f.done += n
		f.sent += int64(n)
		f.total.Add(int64(n))
	}
	return true
}

// consume takes the bytes that were peeked at and sent off the source. From
// then on chunks are read at once.
func (f *flow) consume() error {
	if f.done == 0 {
		return nil
	}
	f.flags = 0
	return f.src.control(func(fd int) error {
		n, err := unix.Read(fd, f.buf[:f.done])
		if err == nil && n != f.done {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}
