package carry

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// Pair is a client and its connection to the app.
type Pair struct {
	client, Backend *sock.Socket
	loop            *Loop
	up, down        flow
	account         *Account
	silence
	ended func() // called when both flows are over
}

// flow is one direction of a pair.
type flow struct {
	src, dst *sock.Socket
	total    *atomic.Int64 // bytes sent, of all pairs
	sent     int64         // bytes sent, of this flow
	onFirst  func()        // called once the source has said something, or its FIN

	// How the flow ended: both nil if the FIN was handed on.
	srcErr, dstErr error
	over           bool

	// The chunk that the destination has not taken yet, in a buffer or in a
	// pipe. There is neither while there is none: an idle connection holds
	// nothing.
	chunk
	peek bool // what is read stays in the kernel until it has been sent
	bulk bool // the last chunk would have filled a buffer: there may be much more
}

// NewPair joins a client and a backend. answered is called once, when the
// backend's first byte or its FIN has come.
func NewPair(client, backend *sock.Socket, l *Loop, a *Account, answered func()) *Pair {
	p := &Pair{client: client, Backend: backend, loop: l, account: a}
	// The client's first bytes stay in the kernel until the backend's kernel
	// has them, so that another backend can still get them.
	p.up = flow{src: client, dst: backend, total: &a.In, peek: true}
	p.down = flow{src: backend, dst: client, total: &a.Out, onFirst: answered}
	return p
}

// Start begins to forward. Once both directions have ended, ended is called,
// by the loop unless that cannot begin. It leaves both sockets open.
func (p *Pair) Start(ended func()) {
	p.ended = ended
	err := errors.Join(p.client.LeavePoller(), p.Backend.LeavePoller())
	if err == nil {
		p.client.Interest, p.Backend.Interest = p.interest(p.client), p.interest(p.Backend)
		err = p.loop.Add(p, p.client, p.Backend)
	}
	if err != nil {
		p.up.srcErr, p.down.srcErr = err, err
		ended()
	}
}

// Unheard reports whether the backend reset the connection before it took or
// said anything, while the client is still there and has lost nothing.
func (p *Pair) Unheard() bool {
	backend := errors.Join(p.down.srcErr, p.up.dstErr)
	client := errors.Join(p.up.srcErr, p.down.dstErr)
	return p.up.sent == 0 && p.down.sent == 0 && isReset(backend) && (client == nil || IsWoken(client))
}

// Err is nil if both directions ended with a FIN.
func (p *Pair) Err() error {
	return errors.Join(p.up.srcErr, p.up.dstErr, p.down.srcErr, p.down.dstErr)
}

// Close closes both sockets, with a FIN.
func (p *Pair) Close() {
	p.client.Close()
	p.Backend.Close()
}

// Finish resets both connections, but only after each peer has what was sent
// to it.
func (p *Pair) Finish(ctx context.Context) {
	p.client.Drain(ctx)
	p.Backend.Drain(ctx)
	p.client.Reset()
	p.Backend.Reset()
}

// IsWoken reports whether an error is that of a socket that was woken, or cut.
func IsWoken(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func isReset(err error) bool {
	return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

// Cut ends both directions at once. It is for the loop to call.
func (p *Pair) Cut() {
	if p.up.over && p.down.over {
		return
	}
	for _, f := range []*flow{&p.up, &p.down} {
		f.stop(p.loop)
	}
	p.update()
}

// Ready is of carrier.
func (p *Pair) Ready(l *Loop, fd int, events uint32) {
	from, to := &p.up, &p.down // the flows from and to the socket
	if fd == p.Backend.FD {
		from, to = to, from
	}
	if to.pending() && events&^unix.EPOLLIN != 0 {
		to.move(l)
	}
	if !from.over && !from.pending() && events&^unix.EPOLLOUT != 0 {
		from.move(l)
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 && from.watches() && sock.IsGone(fd) {
		from.srcErr = unix.ECONNRESET
	}
	p.update()
}

// update sees to it that a direction ends when it must with the other:
//   - The source is gone: what the other direction carries can reach nobody.
//   - The destination is gone: it may have sent something first, a complete
//     answer perhaps, and the other direction delivers that before it meets
//     the end by itself.
//   - The source's FIN is handed on: the other direction goes on for as long
//     as it likes, unless the source turns out to be gone altogether. That
//     comes as a reset, or as the answer to a keepalive probe.
func (p *Pair) update() {
	if p.up.over && p.up.srcErr != nil {
		p.down.stop(p.loop)
	}
	if p.down.over && p.down.srcErr != nil {
		p.up.stop(p.loop)
	}
	if p.up.over && p.down.over {
		if p.Err() == nil {
			p.loop.release(p.client, p.Backend)
		} else {
			p.loop.Remove(p.client, p.Backend)
		}
		p.ended()
		return
	}
	err := errors.Join(p.loop.Watch(p.client, p.interest(p.client)), p.loop.Watch(p.Backend, p.interest(p.Backend)))
	if err != nil { // no memory for it (epoll_ctl(2)); unwatched, it would hang for good
		p.Cut()
	}
}

// interest is what has to be known of a socket: that it can be read, that it
// takes more, or only that it is gone. EPOLLHUP and EPOLLERR always report.
func (p *Pair) interest(s *sock.Socket) (events uint32) {
	from, to := &p.up, &p.down
	if s == p.Backend {
		from, to = to, from
	}
	if !from.over && !from.pending() {
		events |= unix.EPOLLIN
	}
	if to.pending() {
		events |= unix.EPOLLOUT
	}
	if from.watches() {
		events |= unix.EPOLLHUP
	}
	return events
}

// watches reports whether all that can come of the source is that it is gone.
func (f *flow) watches() bool {
	return f.over && f.srcErr == nil && f.dstErr == nil && !f.src.FinSent
}

// stop ends the flow, if it goes on, for a reason that is not its own.
func (f *flow) stop(l *Loop) {
	if !f.over {
		f.end(l, os.ErrDeadlineExceeded, nil)
	}
}

func (f *flow) end(l *Loop, srcErr, dstErr error) {
	f.over, f.srcErr, f.dstErr = true, srcErr, dstErr
	f.drop(l)
}

// move moves a chunk on, a new one if the last is gone. What is left is
// reported again, and others get their turn before.
func (f *flow) move(l *Loop) {
	if f.pending() || f.fill(l) {
		f.flush(l)
	}
}

// fill takes the next chunk and returns whether there was one.
func (f *flow) fill(l *Loop) bool {
	err := f.read(l)
	if err == unix.EAGAIN {
		return false
	}
	if f.onFirst != nil && (err == nil || errors.Is(err, io.EOF)) {
		f.onFirst()
		f.onFirst = nil
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, io.EOF):
		f.end(l, nil, f.handOn())
	default:
		f.end(l, err, nil)
	}
	return false
}

// handOn hands the source's FIN on. If nothing comes the other way any more, the
// close that follows sends it.
func (f *flow) handOn() error {
	if f.dst.FinRead {
		return nil
	}
	err := f.dst.CloseWrite()
	f.src.FinRead = err == nil
	return err
}

// read fills a pipe if much is to be expected and there is one, else a buffer.
func (f *flow) read(l *Loop) (err error) {
	var n int
	if f.bulk && f.borrowPipe(l) {
		n, err = f.pipe.fill(f.src.FD)
	} else {
		n, err = f.fillBuffer(l)
	}
	if err == nil && n == 0 || err == unix.ENOTCONN { // the latter after a reset within connect(2)
		err = f.src.EndOfInput(f.sent) // all that was read, or there would be a chunk
	}
	if err != nil {
		f.drop(l)
		return err
	}
	f.at, f.left = 0, n
	f.bulk = n >= bufferSize
	return nil
}

func (f *flow) fillBuffer(l *Loop) (n int, err error) {
	f.buf = l.buffers.get()
	if f.peek {
		return sock.Peek(f.src.FD, f.buf[:])
	}
	return sock.Read(f.src.FD, f.buf[:])
}

// flush sends what the destination takes of the chunk.
func (f *flow) flush(l *Loop) {
	for f.left > 0 {
		n, err := f.write()
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			f.dst.Failed(err)
			f.end(l, f.consume(), err)
			return
		}
		f.at, f.left = f.at+n, f.left-n
		f.sent += int64(n)
		f.total.Add(int64(n))
	}
	if err := f.consume(); err != nil {
		f.end(l, err, nil)
		return
	}
	f.drop(l)
}

// consume takes the bytes that were peeked at and sent off the source. From
// then on chunks are read at once.
func (f *flow) consume() error {
	if !f.peek || f.at == 0 {
		return nil
	}
	f.peek = false
	n, err := sock.Read(f.src.FD, f.buf[:f.at])
	if err == nil && n != f.at {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// chunk is what a flow has read and not sent yet. It is in a buffer or in a
// pipe.
type chunk struct {
	buf      *Buffer
	pipe     *pipe
	at, left int
}

func (c *chunk) pending() bool { return c.left > 0 }

// write sends what fits now, like send(2).
func (f *flow) write() (int, error) {
	if f.pipe != nil {
		return f.pipe.empty(f.dst.FD, f.left)
	}
	return sock.Write(f.dst.FD, f.buf[f.at:f.at+f.left])
}

func (c *chunk) borrowPipe(l *Loop) bool {
	c.pipe = l.pipes.get()
	return c.pipe != nil
}

// drop gives back what holds the chunk. A pipe that still has some of it in it
// can serve nobody else.
func (c *chunk) drop(l *Loop) {
	if c.buf != nil {
		l.buffers.put(c.buf)
	}
	if c.pipe != nil {
		l.pipes.put(c.pipe, c.left == 0)
	}
	*c = chunk{}
}
