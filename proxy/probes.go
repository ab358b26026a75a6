package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/head"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// A probe has no body, and all of its head was read: what follows on the
// connection is another request, for whoever reads it. So the proxy may answer one
// request and forward the next. The other way round it does not: once bytes are
// forwarded that were not read as a probe, the connection is the app's.

// answerPatience is how long a client may take to take an answer of the proxy's own,
// or a piece of one of the app's to a probe, and the app to take the probe. Who is no
// use does not keep the proxy from ending.
const answerPatience = 10 * time.Second

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
	return p.say(c, r, fields, body)
}

// isLate reports whether the wake that goes on takes longer than clients wait: a
// monitor is not told that all is well then.
func (p *porter) isLate() bool {
	began := time.Duration(p.activity.wakes.Load())
	return began > 0 && time.Since(p.activity.start)-began > p.cfg.StartTimeout && !p.activity.isReached()
}

// httpDate is the IMF-fixdate of RFC 9110, 5.6.7.
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// say takes the request, and sends an answer with a body. It reports whether another
// request may follow.
func (p *porter) say(c *connection, r head.Request, fields, body string) bool {
	if p.swallow(c.client, r.Length) != nil {
		return false
	}
	if r.Last {
		fields += "Connection: close\r\n"
	}
	text := fmt.Sprintf("%sContent-Length: %d\r\n\r\n", fields, len(body))
	if r.Method != "HEAD" {
		text += body
	}
	file, _ := c.client.Poller()
	_, err := c.writeSoon(file, []byte(text))
	_ = file.SetWriteDeadline(time.Time{})
	if err == nil && r.Last {
		p.partWith(c)
	}
	return err == nil && !r.Last
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
				c.release()
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
	_, err := c.writeSoon(file, b[:n])
	p.activity.In.Add(int64(n))
	return err
}

// writeSoon writes all within answerPatience, or until the proxy ends.
func (c *connection) writeSoon(to *os.File, b []byte) (int, error) {
	_ = to.SetWriteDeadline(time.Now().Add(answerPatience))
	if c.hard.Err() != nil { // whoever was woken by it is so no more
		return 0, c.hard.Err()
	}
	return to.Write(b)
}

// finish ends a connection that was of no use.
func (p *porter) finish(c *connection, backend *sock.Socket, answers *answers) {
	answers.pause()
	if answers.err == nil || errors.Is(answers.err, io.EOF) {
		p.partWith(c)
		c.client.Close()
		backend.Close()
	} else {
		c.client.Drain(c.hard)
		c.client.Reset()
		backend.Reset()
	}
	c.end()
}

// answers are what an app says to probes.
type answers struct {
	backend *sock.Socket
	over    chan struct{} // closed when no more are brought
	done    chan struct{} // closed when nothing is done any more
	err     error         // why; nil: it was paused
}

// bring takes the app's answers to the client.
func (p *porter) bring(c *connection, backend *sock.Socket) *answers {
	a := &answers{backend: backend, over: make(chan struct{}), done: make(chan struct{})}
	from, _ := backend.Poller()
	to, _ := c.client.Poller()
	stop := context.AfterFunc(c.hard, func() {
		backend.Wake()
		c.client.Wake()
	})
	p.background(func() {
		defer close(a.done)
		defer func() { // relay hears the client, or passes a request
			close(a.over)
			c.client.Wake()
			backend.Wake()
		}()
		defer stop()
		b := make([]byte, 16<<10)
		for {
			n, err := from.Read(b)
			if n > 0 {
				c.target.proven.Store(true)
				backend.Taken += int64(n)
				m, e := c.writeSoon(to, b[:n])
				p.activity.Out.Add(int64(m))
				if e != nil {
					a.err = e
					return
				}
			}
			if err != nil {
				if !carry.IsWoken(err) {
					a.err = err
				}
				return
			}
		}
	})
	return a
}

// pause stops to bring answers, and reports whether more may come.
func (a *answers) pause() bool {
	a.backend.Wake()
	<-a.done
	a.backend.Unwake()
	return a.err == nil
}
