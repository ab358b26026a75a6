package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

const (
	// burst is how many datagrams of one socket are carried before the others
	// get their turn.
	burst = 64
	// verdict is how long a datagram may go without an answer or an ICMP message
	// before an app that has not answered anybody yet is said to have taken it. The
	// ICMP message comes at once, but who brings it may have to wait for a processor.
	verdict = 10 * time.Millisecond
	// drainQuiet is how long no datagram may have come or gone before a proxy
	// that is told to stop ends: nothing else says that an answer has been the
	// last one.
	drainQuiet = time.Second
)

// relay carries the datagrams of all UDP sockets, in one loop. Everything but
// its making and its end is that loop's goroutine's.
//
// A datagram that the app does not take yet stays where it is, first in the
// queue of the listening socket, and what comes behind it waits there too: the
// kernel keeps the order and the bound (SO_RCVBUF), drops what is too much as
// it always does, and keeps it all even if the proxy dies.
type relay struct {
	loop     *carry.Loop
	activity *activity
	record   *report.Recorder
	patience time.Duration // that a datagram is held
	reached  func(peer func() string)
	thawing  *thawing
	allowed  func(netip.AddrPort) bool
	isReady  func() bool // the container may be sent something
	fronts   []*front
	holding  map[*front]struct{}
	sessions *sessions
	inbox    *inbox
	paused   bool

	timer *time.Timer // calls tick
	next  time.Time   // when it does, if it does
}

// front is a UDP socket that systemd holds.
type front struct {
	*listener
	relay  *relay
	target *target
	ways   map[netip.Addr]wire.Address // where the app was found, see wayKey
	open   bool                        // the app takes what it is sent
	held   *held                       // what the app has to take first; the socket is not read meanwhile

	verified time.Time // see front.verify
}

// held is a datagram that the app has not taken yet.
type held struct {
	datagram
	queued   bool // it is still in the kernel's queue
	since    time.Time
	deadline time.Time // zero: none
	due      time.Time // of the next attempt, or of the verdict on this one
	// trial is the session in which it was sent, and may yet be refused.
	trial *session
}

// newRelay takes over the listeners.
func (s *server) newRelay(listeners []*listener, maxSessions int) (*relay, error) {
	fail := func(err error) (*relay, error) {
		closeAll(listeners)
		return nil, err
	}
	loop, err := s.loops.Another()
	if err != nil {
		return fail(err)
	}
	r := &relay{
		loop: loop, activity: s.activity, record: s.record, patience: s.cfg.StartTimeout, reached: s.reached, thawing: &s.thawing,
		allowed: func(client netip.AddrPort) bool {
			return allowed(s.cfg.AllowFrom, wire.Address{Network: wire.UDP, IP: client})
		}, isReady: s.isReady,
		holding: make(map[*front]struct{}), sessions: newSessions(maxSessions, s.activity), inbox: new(inbox), paused: true,
	}
	for _, l := range listeners {
		r.fronts = append(r.fronts, &front{listener: l, relay: r, target: s.targets[l.forward.Listen], ways: make(map[netip.Addr]wire.Address)})
	}
	r.timer = time.AfterFunc(time.Hour, func() { r.loop.Post(r.tick) })
	for _, f := range r.fronts {
		f.Interest = silent
		if err := r.loop.Add(f, f.Socket); err != nil {
			r.loop.Close()
			return fail(err)
		}
	}
	return r, nil
}

// close ends everything. What is held and not in the kernel's queue is lost.
func (r *relay) close() {
	r.loop.Close()
	for f := range r.holding {
		if h := f.held; h.trial != nil {
			h.trial.backend.Close()
		} else if !h.queued {
			r.record.Stopped(h.from.String())
		}
	}
	for s := range maps.Values(r.sessions.all) {
		s.backend.Close()
	}
	r.timer.Stop()
	for _, f := range r.fronts {
		f.Close()
	}
}

// pause stops reading. When it returns, everything that was read has been
// counted. Something left in a queue counts as use, too: to exit would only
// have the container stopped and started again.
func (r *relay) pause() {
	r.wait(func() {
		r.paused = true
		for _, f := range r.fronts {
			r.listenTo(f)
			if f.held == nil && sock.Ready(f.FD, unix.POLLIN) {
				r.activity.touch(time.Now())
			}
		}
	})
}

// resume starts to read.
func (r *relay) resume() {
	r.wait(func() {
		r.paused = false
		for _, f := range r.fronts {
			r.listenTo(f)
		}
	})
}

// wait has f called in the loop and returns when it was.
func (r *relay) wait(f func()) {
	done := make(chan struct{})
	r.loop.Post(func() { f(); close(done) })
	<-done
}

// silent is the interest in a listening socket that is not to be read. It stays
// in the epoll instance, because to come back takes memory, which may be out
// (epoll_ctl(2)).
const silent = unix.EPOLLERR

// listenTo reads from the socket unless that has to wait.
func (r *relay) listenTo(f *front) {
	events := uint32(silent)
	if f.reads() {
		events = unix.EPOLLIN
	}
	_ = r.loop.Watch(f.Socket, events)
}

func (f *front) reads() bool { return !f.relay.paused && f.held == nil }

// tick does what is due.
func (r *relay) tick() {
	now := time.Now()
	r.next = time.Time{}
	for f := range r.holding {
		switch h := f.held; {
		case now.Before(h.due):
		case h.trial == nil:
			r.attempt(f, now)
		default:
			r.judge(f, now)
		}
	}
	for s := range r.sessions.expired(now) {
		r.end(s)
	}
	for f := range r.holding {
		r.wakeBy(f.held.due)
	}
	if at := r.sessions.nextExpiry(); !at.IsZero() {
		r.wakeBy(at)
	}
}

// wakeBy has tick called at the latest then.
func (r *relay) wakeBy(at time.Time) {
	if !r.next.IsZero() && !at.Before(r.next) {
		return
	}
	r.next = at
	r.timer.Reset(time.Until(at))
}

// Ready is of carrier, for the listening socket.
func (f *front) Ready(*carry.Loop, int, uint32) {
	if !f.reads() {
		_ = f.PendingError() // nothing that is sent from here is worth one, but it would be reported for ever
		return
	}
	now := time.Now()
	for range burst {
		flags := 0
		if !f.open {
			flags = unix.MSG_PEEK
		}
		d, err := f.receive(f.relay.inbox, flags)
		if err == unix.EAGAIN {
			return
		}
		if err != nil {
			f.relay.record.Retrying(fmt.Errorf("cannot receive on %s: %w", f.forward.Listen, err))
			return
		}
		if !f.relay.allowed(d.from.client) {
			if flags != 0 {
				f.discard()
			}
			continue
		}
		f.relay.activity.touch(now)
		if f.open {
			f.relay.forward(f, d, now)
		} else {
			f.relay.hold(f, d, true, now)
		}
		if f.held != nil {
			return
		}
	}
}

// Cut is of carrier. Datagrams end with the relay.
func (*front) Cut()   {}
func (*session) Cut() {}

// forward gives a datagram to an app that took the last one.
func (r *relay) forward(f *front, d datagram, now time.Time) {
	s := r.sessions.find(d.from, now)
	var err error
	if s != nil {
		err = f.verify(s, now)
		if err == nil {
			err = s.backend.SendDatagram(d.data)
		}
	} else {
		way, found := f.ways[f.wayKey(d.from.client)]
		if !found {
			r.hold(f, d, false, now)
			return
		}
		if s, err = r.begin(f, f.target.source, d, way, now); err == nil {
			f.seen(s)
			r.keep(s)
		}
	}
	switch {
	case err == nil:
		s.spoken(now)
		r.activity.In.Add(int64(len(d.data)))
		if !r.thawing.isOver() {
			r.thawedFor(s)
		}
	case isLost(err):
		r.record.Retrying(fmt.Errorf("a datagram for %s is lost: %w", f.forward.Target, err))
	default:
		r.missed(f, err)
		r.hold(f, d, false, now)
	}
}

// thawedFor tells for whose session the app has been thawed.
func (r *relay) thawedFor(s *session) { r.reached(s.from.String) }

// verify looks from time to time whether a session still reaches the container.
func (f *front) verify(s *session, now time.Time) error {
	if now.Sub(f.verified) < reach.VerifyInterval(f.target.source) {
		return nil
	}
	f.verified = now
	return f.target.source.Verify(s.backend.FD, s.way)
}

// wayKey is who finds the app at the same address: each of the container's own
// addresses, and all others of a family.
func (f *front) wayKey(client netip.AddrPort) netip.Addr {
	switch ip := client.Addr(); {
	case reach.IsOwn(f.target.source, wire.UDP, ip):
		return ip
	case ip.Is6() && len(f.target.addrs) > 1:
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// begin sends the first datagram of a client, from a socket of its own. A session
// that has been silent for too long has what the new one needs.
func (r *relay) begin(f *front, source reach.Source, d datagram, way wire.Address, now time.Time) (*session, error) {
	if old := r.sessions.all[d.from]; old != nil {
		r.end(old)
	}
	backend, err := reach.DialOne(source, way, d.from.client)
	if err != nil {
		return nil, err
	}
	err = backend.SendDatagram(d.data)
	if err == nil {
		// Before it was sent this had shown that it would reach nobody else,
		// now it shows that it has not been left lying.
		err = source.Verify(backend.FD, way)
	}
	s := &session{front: f, from: d.from, to: d.to, source: d.source(), backend: backend, way: way, last: now}
	if err == nil {
		backend.Interest = unix.EPOLLIN
		err = r.loop.Add(s, backend)
	}
	if err != nil {
		backend.Close()
		return nil, fmt.Errorf("send to %s: %w", way, err)
	}
	return s, nil
}

// seen tells as whom the app sees the client of a new session.
func (f *front) seen(s *session) {
	if local, err := unix.Getsockname(s.backend.FD); err == nil {
		f.target.source.Seen(f.ways[f.wayKey(s.from.client)], s.from.client, sock.Address(wire.UDP, local).IP, nil)
	}
}

// keep lets a session into the table, at the expense of another if it is full.
func (r *relay) keep(s *session) {
	if old := r.sessions.keep(s); old != nil {
		r.end(old)
	}
	r.wakeBy(r.sessions.nextExpiry())
}

// end ends a session. The client's next datagram begins a new one.
func (r *relay) end(s *session) {
	r.sessions.forget(s)
	r.loop.Remove(s.backend)
	s.backend.Close()
}

// missed takes note that the app is not there. If it is not there any more,
// its sessions are over: another container may be the next to take datagrams,
// and is reached by new sockets only.
func (r *relay) missed(f *front, err error) {
	f.target.missed(err)
	if !f.open {
		return
	}
	f.open = false
	clear(f.ways)
	if reach.IsStarting(err) {
		for s := range maps.Values(r.sessions.all) {
			if s.front == f {
				r.end(s)
			}
		}
		f.target.source.Refused()
	}
}

// hold keeps a datagram until the app takes it.
func (r *relay) hold(f *front, d datagram, queued bool, now time.Time) {
	d.data = append([]byte(nil), d.data...)
	f.held = &held{datagram: d, queued: queued, since: now, due: now}
	if r.patience != wire.Infinity {
		f.held.deadline = now.Add(r.patience)
	}
	if !queued {
		f.held.due = now.Add(pause(0)) // it was refused just now
	}
	r.activity.held.Add(1)
	r.holding[f] = struct{}{}
	r.listenTo(f)
	if queued {
		r.attempt(f, now)
	}
	if f.held != nil {
		r.wakeBy(f.held.due)
	}
}

// attempt sends the held datagram, each time from a new socket: the container
// may be another one by now, and a flow that once missed Podman's NAT rule
// goes on missing it (nf_nat_inet_fn() in net/netfilter/nf_nat_core.c decides
// with the first packet).
func (r *relay) attempt(f *front, now time.Time) {
	h := f.held
	if !h.deadline.IsZero() && now.After(h.deadline) {
		r.turnAway(f, now)
		return
	}
	if !r.isReady() {
		r.refused(f, reach.ErrNotReady, now)
		return
	}
	err := reach.TryEach(f.target.source, f.target.addrs, h.from.client, func(source reach.Source, way wire.Address) error {
		s, err := r.begin(f, source, h.datagram, way, now)
		if err == nil {
			f.ways[f.wayKey(h.from.client)], h.trial, h.due = way, s, now.Add(verdict)
		}
		return err
	})
	switch {
	case err == nil:
	case isLost(err):
		r.record.TurnedAway(h.from.String(), err.Error())
		r.release(f, now)
	default:
		f.target.source.Refused()
		r.refused(f, err, now)
	}
}

// refused waits for the next attempt.
func (r *relay) refused(f *front, err error, now time.Time) {
	h := f.held
	f.target.missed(err)
	h.due = now.Add(pause(now.Sub(h.since)))
	r.wakeBy(h.due)
}

// judge takes the held datagram for delivered if nothing has been heard of it.
func (r *relay) judge(f *front, now time.Time) {
	s := f.held.trial
	if err := s.backend.PendingError(); err != nil {
		r.fail(s, err, now)
		return
	}
	r.accept(f, now)
}

// accept lets the datagrams behind the held one follow.
func (r *relay) accept(f *front, now time.Time) {
	s := f.held.trial
	f.held.trial = nil
	f.seen(s)
	s.spoken(now)
	r.keep(s)
	r.activity.In.Add(int64(len(f.held.data)))
	f.open = true
	r.reached(f.held.from.String)
	r.release(f, now)
}

// release is the end of holding.
func (r *relay) release(f *front, now time.Time) {
	if f.held.queued {
		f.discard()
	}
	f.held = nil
	delete(r.holding, f)
	r.activity.touch(now)
	r.activity.held.Add(-1)
	r.listenTo(f)
}

// turnAway gives up what has been waiting for too long: the held datagram and,
// since they came while it was held, those behind it.
func (r *relay) turnAway(f *front, now time.Time) {
	r.record.TurnedAway(f.held.from.String(), fmt.Sprintf("%s took no datagram on %s in time (%v)",
		r.record.Container, f.target.addr, f.target.why()))
	const most = 1 << 16 // who sends without end does not keep us here
	for range most {
		if !f.discard() {
			break
		}
	}
	f.held.queued = false
	r.release(f, now)
}

// Ready is of carrier, for the app's side of a session.
func (s *session) Ready(*carry.Loop, int, uint32) {
	r, now := s.front.relay, time.Now()
	n, err := sock.Read(s.backend.FD, r.inbox.data[:])
	if err == unix.EAGAIN {
		return
	}
	if err == nil {
		err = s.front.verify(s, now)
	}
	if err != nil {
		r.fail(s, err, now)
		return
	}
	r.activity.touch(now)
	if h := s.front.held; h != nil && h.trial == s {
		r.accept(s.front, now)
	}
	s.heard(now)
	if err := s.reply(r.inbox.data[:n]); err != nil {
		r.record.Retrying(fmt.Errorf("an answer to %s is lost: %w", &s.from, err))
		return
	}
	r.activity.Out.Add(int64(n))
}

// fail ends a session whose app has gone, or was not there in the first place.
func (r *relay) fail(s *session, err error, now time.Time) {
	f := s.front
	if h := f.held; h != nil && h.trial == s {
		h.trial = nil
		r.loop.Remove(s.backend)
		s.backend.Close()
		r.refused(f, err, now)
		return
	}
	r.missed(f, err)
	if r.sessions.all[s.from] == s { // not a reason to give up the others
		r.end(s)
	}
}

// isLost tells errors that concern this datagram only: it is too large for the
// app's side, or there is no room for it now.
func isLost(err error) bool {
	return errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EAGAIN)
}

// quiet reports whether nothing is held and no datagram came or went for a
// while.
func (r *relay) quiet(idleTimeout time.Duration) bool {
	return r.activity.held.Load() == 0 && r.activity.untilIdle(min(drainQuiet, idleTimeout)) <= 0
}
