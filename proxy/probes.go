package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/head"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// A probe has no body, and all of its head was read: what follows on the
// connection is another request, for whoever reads it. So the proxy may answer one
// request and forward the next. The other way round it does not: once bytes are
// forwarded that were not read as a probe, the connection is the app's.

// defaultAnswerPatience is how long a client may take to take an answer of the proxy's own,
// or a piece of one of the app's to a probe, and the app to take the probe. Who is no
// use does not keep the proxy from ending.
const defaultAnswerPatience = 10 * time.Second

// answer answers a probe in the app's place, and reports whether another request may
// follow.
func (p *porter) answer(c *connection, r head.Request) bool {
	status, state := "200 OK", "asleep"
	switch {
	case p.isLate():
		status, state = "503 Service Unavailable", "failing"
	case p.starter.asked.Load():
		state = "waking"
	}
	name := strings.TrimSuffix(p.cfg.Container, ".service")
	body := fmt.Sprintf("%s is %s. zerolet has answered this probe, and did not wake it for that.\n", name, state)
	fields := "HTTP/1.1 " + status + "\r\nDate: " + time.Now().UTC().Format(httpDate) +
		"\r\nZerolet-State: " + state + "\r\nCache-Control: no-store\r\nContent-Type: text/plain; charset=utf-8\r\n"
	return p.say(c, r, fields, slices.Values([]string{body}))
}

// isLate reports whether the wake that goes on takes longer than clients wait: a
// monitor is not told that all is well then.
func (p *porter) isLate() bool {
	began := time.Duration(p.activity.wakes.Load())
	return began > 0 && time.Since(p.activity.start)-began > p.cfg.StartTimeout && !p.activity.isReached()
}

// httpDate is the IMF-fixdate of RFC 9110, 5.6.7.
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// roomFor is how much of an answer the kernel has room for. It would take megabytes for
// who does not read (tcp(7), tcp_wmem).
const roomFor = 16 << 10

// say takes the request, and sends an answer with a body. It reports whether another
// request may follow. It holds no more than a few kB of it: many may take their time.
func (p *porter) say(c *connection, r head.Request, fields string, body iter.Seq[string]) bool {
	if p.swallow(c.client, r.Length) != nil {
		return false
	}
	if r.Last {
		fields += "Connection: close\r\n"
	}
	length := 0
	for piece := range body {
		length += len(piece)
	}
	if r.Method == "HEAD" {
		body = noBody
	}
	if length > roomFor {
		_ = sock.SetOption(c.client.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, roomFor) // it costs more without
	}
	err := p.write(c, fmt.Sprintf("%sContent-Length: %d\r\n\r\n", fields, length), body)
	if err == nil && r.Last {
		p.partWith(c)
	}
	return err == nil && !r.Last
}

// noBody is the body of an answer without one.
func noBody(func(string) bool) {}

// write sends all within answerPatience, or until the proxy ends.
func (p *porter) write(c *connection, head string, body iter.Seq[string]) (err error) {
	defer context.AfterFunc(c.hard, c.client.Wake)()
	file, _ := c.client.Poller()
	if err := c.soon(file); err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 2<<10)
	_, err = out.WriteString(head)
	for piece := range body {
		if err == nil {
			_, err = out.WriteString(piece)
		}
	}
	if err == nil {
		err = out.Flush()
	}
	_ = file.SetWriteDeadline(time.Time{})
	return err
}

// swallow takes what was read in the kernel's buffer out of it.
func (p *porter) swallow(client *sock.Socket, n int) error {
	b := p.buffers.Get().(*[head.Max]byte)
	defer p.buffers.Put(b)
	return take(client, b[:n])
}

// take reads bytes that are known to be there.
func take(client *sock.Socket, b []byte) error {
	for len(b) > 0 {
		n, err := sock.Read(client.FD, b)
		if err != nil || n == 0 {
			return errors.Join(err, io.ErrUnexpectedEOF)
		}
		client.Taken += int64(n)
		b = b[n:]
	}
	return nil
}

// partWith ends what we send, and waits for the client to do so, too: bytes that
// come to a closed socket have the kernel reset the connection, and with it the
// answer (RFC 9112, 9.6).
func (p *porter) partWith(c *connection) {
	if c.client.CloseWrite() != nil {
		return
	}
	defer context.AfterFunc(c.hard, c.client.Wake)()
	file, _ := c.client.Poller()
	_ = file.SetReadDeadline(time.Now().Add(grace))
	if c.hard.Err() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(readerOf{file}, head.Max))
}

// readerOf has nothing but Read, so that io.Copy does not splice.
type readerOf struct{ io.Reader }

// relay lets the app answer a probe, and those that follow on the connection. When
// something else does, it is like any other from then on.
func (p *porter) relay(c *connection, r head.Request) {
	backend, err := p.reachAwake(c)
	if err != nil {
		c.explain(err)
		c.client.Reset()
		c.end()
		return
	}
	c.release()
	c.introduce(backend)
	c.begun = true
	answers := p.bring(c, backend)
	for {
		if err = p.pass(c, backend, r.Length); err != nil {
			break
		}
		w := p.hear(c, time.Now(), 0, answers.over)
		if w.meaning == aProbe {
			r = w.request
			p.decided(w)
			continue
		}
		if w.meaning >= forApp {
			p.use(c)
			p.decided(w)
			if answers.pause() {
				c.join(backend)
				return
			}
		}
		if w.meaning == ended && !sock.IsGone(c.client.FD) && backend.CloseWrite() == nil {
			<-answers.over // as many as are to come
		}
		break
	}
	p.finish(c, backend, answers)
}

// reachAwake is reach for a container that is up, and starts none.
func (p *porter) reachAwake(c *connection) (*sock.Socket, error) {
	c.holdFrom(time.Now())
	ctx, release := heldContext(c.hard, c.client, c.deadline)
	defer release()
	return c.target.reach(ctx, c.peer.IP, c.accepted)
}

// pass moves a request to the app.
func (p *porter) pass(c *connection, backend *sock.Socket, n int) error {
	b := p.buffers.Get().(*[head.Max]byte)
	defer p.buffers.Put(b)
	if err := take(c.client, b[:n]); err != nil {
		return err
	}
	file, _ := backend.Poller()
	err := c.soon(file)
	if err == nil {
		_, err = file.Write(b[:n])
	}
	p.activity.In.Add(int64(n))
	return err
}

// soon has no write take longer than answerPatience. At the end of the proxy it fails:
// whoever was woken by that is so no more.
func (c *connection) soon(to *os.File) error {
	_ = to.SetWriteDeadline(time.Now().Add(c.answerPatience))
	return c.hard.Err()
}

// finish ends a connection that was of no use. Half an answer must not look like a
// whole one.
func (p *porter) finish(c *connection, backend *sock.Socket, answers *answers) {
	answers.pause()
	switch err := answers.err; {
	case err == nil && answers.left(), carry.IsWoken(err):
		c.client.Reset()
		backend.Reset()
	case err == nil, errors.Is(err, io.EOF):
		p.partWith(c)
		c.client.Close()
		backend.Close()
	default:
		c.client.Drain(c.hard)
		c.client.Reset()
		backend.Reset()
	}
	c.end()
}

// answers are what an app says to probes. What the client takes none of stays in the
// app's socket: there it costs the proxy nothing, and is not lost to who carries it
// from then on.
type answers struct {
	*porter
	client, backend *sock.Socket
	target          *target
	paused          atomic.Bool
	stop            func() bool   // takes back what is to be done at a hard end
	over            chan struct{} // closed when no more are brought
	done            chan struct{} // closed when nothing is done any more
	err             error         // why; nil: it was paused
}

// bring takes the app's answers to the client.
func (p *porter) bring(c *connection, backend *sock.Socket) *answers {
	a := &answers{porter: p, client: c.client, backend: backend, target: c.target, over: make(chan struct{}), done: make(chan struct{})}
	a.stop = context.AfterFunc(c.hard, a.wake)
	p.background(func() {
		defer close(a.done)
		defer a.wake() // for relay
		defer close(a.over)
		for a.err == nil {
			a.err = a.some()
		}
		if carry.IsWoken(a.err) && a.isOver() {
			a.err = p.hard.Err()
		}
	})
	return a
}

// some brings what there is, when there is some. A client that takes nothing for
// answerPatience is not waited for.
func (a *answers) some() error {
	_, from := a.backend.Poller()
	if err := from.Read(func(fd uintptr) bool { return sock.Ready(int(fd), unix.POLLIN) }); err != nil {
		return err
	}
	file, to := a.client.Poller()
	for {
		before, _ := a.client.Unsent()
		_ = file.SetWriteDeadline(time.Now().Add(a.answerPatience))
		if a.isOver() {
			return os.ErrDeadlineExceeded
		}
		var err error
		late := to.Write(func(uintptr) bool { err = a.move(); return err != unix.EAGAIN })
		if late == nil {
			return err
		}
		// The poller tells of room when a third of the buffer is free
		// (sk_stream_is_writeable() in include/net/sock.h).
		if now, _ := a.client.Unsent(); now == before || a.isOver() {
			return late
		}
	}
}

// move brings as much as the client has room for.
func (a *answers) move() error {
	b := a.buffers.Get().(*[head.Max]byte)
	defer a.buffers.Put(b)
	n, err := sock.Peek(a.backend.FD, b[:])
	switch {
	case err != nil:
		return err
	case n == 0:
		return io.EOF
	}
	a.target.proven.Store(true)
	if n, err = sock.Write(a.client.FD, b[:n]); err != nil {
		return err
	}
	a.activity.Out.Add(int64(n))
	return take(a.backend, b[:n])
}

// wake has who waits for one of the sockets go on.
func (a *answers) wake() {
	a.backend.Wake()
	a.client.Wake()
}

func (a *answers) isOver() bool { return a.paused.Load() || a.hard.Err() != nil }

// pause stops to bring answers, and reports whether more may come.
func (a *answers) pause() bool {
	a.paused.Store(true)
	a.wake()
	<-a.done
	going := a.stop() // else both are woken, now or in a moment
	a.backend.Unwake()
	a.client.Unwake()
	return going && a.err == nil
}

// left reports whether the app has said more than was brought.
func (a *answers) left() bool {
	n, err := sock.Peek(a.backend.FD, make([]byte, 1))
	return n > 0 && err == nil
}
