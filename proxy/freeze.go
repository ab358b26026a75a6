package proxy

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// With Sleep=freeze the proxy does not end when it has been idle: it stops to accept
// as if it did, and freezes the container. Whoever comes then waits in the kernel's
// backlog, where the proxy sees it, thaws the container and goes on as before. There
// is nothing that it does in between: it waits in poll(2), and has one timer, for the
// end.
//
// A container must not stay frozen without a proxy that thaws it. The proxy thaws it
// when it ends, its unit does when it has died, and the container's unit before it
// stops (generator/freeze.go).

const (
	// settleTime is how long all processes may take to freeze: one that waits for a
	// device does so when that has answered.
	settleTime = 10 * time.Second
	// closeLook is how often to look whether silent connections have ended, endingTime
	// how long one may take that is told to.
	closeLook  = 10 * time.Millisecond
	endingTime = time.Second
	// lookAgain is when to look again at what is not settled.
	lookAgain = 50 * time.Millisecond
	// thawedFor is how long a container stays awake at least that somebody else has
	// thawed, for something that comes yet: Podman is still to send SIGTERM, or to
	// begin what ExecReload= has it do, and on a busy machine that takes seconds.
	thawedFor = 10 * time.Second
)

// freezing is the way of a server to freeze its container.
type freezing struct {
	*reach.Freezer     // nil: the container is stopped
	news           int // an eventfd(2): something else than a client has come

	mu  sync.Mutex
	now *frozen // nil while the container is awake
}

// frozen is one time in which it is frozen.
type frozen struct {
	reach.Payloads
	since     time.Time
	before    int64         // memory, 0 if not known
	after     atomic.Int64  // when it has been reclaimed, 0 before
	wasFrozen bool          // all processes were
	processes []string      // these
	frozenAt  time.Time     // since then
	over      chan struct{} // closed when the container is thawed
	tell      func()        // has the journal know, once
	reclaimed sync.WaitGroup
}

func newFreezing(cfg wire.Config, entry *reach.Entry) (*freezing, error) {
	f := &freezing{Freezer: reach.NewFreezer(cfg, entry), news: -1}
	if f.Freezer == nil {
		return f, nil
	}
	var err error
	if f.news, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return f, nil
}

// poke has who waits for a client look around.
func (f *freezing) poke() {
	if f.news >= 0 {
		_, _ = unix.Write(f.news, binary.NativeEndian.AppendUint64(nil, 1)) // EAGAIN: it has been poked
	}
}

func (f *freezing) close() {
	if f != nil && f.Freezer != nil {
		unix.Close(f.news)
	}
}

// current is nil while the container is awake.
func (f *freezing) current() *frozen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *freezing) set(now *frozen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = now
}

// awaitThaw is for who looks at something from time to time: not while the container
// is frozen.
func (f *freezing) awaitThaw(ending <-chan struct{}) {
	if now := f.current(); now != nil {
		select {
		case <-now.over:
		case <-ending:
		}
	}
}

// thawing is a wake from being frozen, until a client has got through: since when, in
// nanoseconds since the epoch; 0: it is over.
type thawing struct{ since atomic.Int64 }

func (t *thawing) begin() { t.since.Store(time.Now().UnixNano()) }

func (t *thawing) isOver() bool { return t.since.Load() == 0 }

// end returns how long it took, once.
func (t *thawing) end() (took time.Duration, isFirst bool) {
	since := t.since.Swap(0)
	return time.Since(time.Unix(0, since)), since != 0
}

// thawLeft thaws a container that somebody has left frozen.
func (s *server) thawLeft() {
	if s.freezing.Freezer == nil || !s.freezing.Left() {
		return
	}
	all, err := s.freezing.Open()
	if err == nil {
		err = all.Thaw()
		all.Close()
	}
	if err != nil {
		s.record.Warn(fmt.Sprintf("cannot thaw %s: %v", s.cfg.Container, err))
	}
}

// freeze freezes the container until it is used. Accepting is settled, and so it is
// when it returns: over says that the container is to be stopped, and why; else
// somebody is there.
func (s *server) freeze() (why string, over bool) {
	why = s.whyIdle()
	if s.freezing.Freezer == nil || s.hurried.Load() > 0 { // without swap a frozen one would have what is short
		return why, true
	}
	if !s.closeSilent() {
		return "", false
	}
	all, err := s.freezing.Open()
	if errors.Is(err, reach.ErrNoContainer) {
		return why, true
	}
	if err != nil {
		s.record.Warn(fmt.Sprintf("cannot freeze %s, which is stopped instead: %v", s.cfg.Container, err))
		return why, true
	}
	_, _ = s.thawing.end() // who came the last time has left
	f := &frozen{Payloads: all, since: time.Now(), before: all.Memory(), over: make(chan struct{})}
	f.tell = sync.OnceFunc(func() { s.record.Freeze(why, f.before, f.after.Load()) })
	s.freezing.set(f)
	err = all.Freeze()
	var u use
	if err == nil {
		u, err = s.awaitUse(f)
	}
	if err = errors.Join(err, f.Thaw()); err != nil {
		s.record.Warn(fmt.Sprintf("cannot have %s frozen, which is stopped instead: %v", s.cfg.Container, err))
		u.over = true
	}
	s.awake(f, u)
	if u.foreign && s.awaitEnd(f) {
		u.over, u.why = true, s.cfg.Container+" has ended"
	}
	s.background(func() {
		f.reclaimed.Wait()
		f.Close()
		_ = sock.Rest(s.hard, lookAgain) // whoever has come is served first
		s.freezing.Rest(s.freezing.current() != nil)
	})
	return cmp.Or(u.why, why), u.over
}

// awaitEnd watches a container that somebody else has thawed until its idle time is over,
// or somebody comes. If it ends, it was thawed to be stopped, and is not to be started
// again: it reports that.
func (s *server) awaitEnd(f *frozen) bool {
	defer s.pokeAtStop()()
	for end := s.activity.idleAt(s.cfg.IdleTimeout); !s.isStopped(); {
		if f.Look() == reach.Ended {
			return true
		}
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		if came, err := s.await(f, min(left, lookAgain)); came || err != nil {
			_, _ = s.thawing.end() // it is awake
			return false
		}
	}
	return false
}

// use is what ends the time in which a container is frozen.
type use struct {
	over bool   // the container is to be stopped
	why  string // or has ended
	by   string // who is there instead, if that is no client who says so himself
	told bool

	foreign bool // it was thawed by somebody else
}

// awake is called when the container has been thawed.
func (s *server) awake(f *frozen, u use) {
	s.freezing.set(nil)
	close(f.over)
	if f.wasFrozen {
		f.tell()
	}
	if u.over {
		return
	}
	now := time.Now()
	s.activity.touch(now)
	least := s.cfg.StayAwake
	if u.foreign {
		least = max(least, thawedFor)
	}
	s.activity.stay(least)
	if u.told && f.wasFrozen {
		s.record.Thaw(u.by, 0)
	}
	s.background(func() { s.record.Notify("STATUS=" + s.status()) })
}

// closeSilent ends the silent connections: the app's timers for them would be over
// when it is thawed, and it would reset what has come meanwhile. It fails if somebody
// speaks or comes. That they end is no use.
func (s *server) closeSilent() bool {
	if s.activity.open.Load() == 0 {
		return true
	}
	last := s.activity.lastEnd.Load()
	s.endSilent()
	for began := time.Now(); s.activity.open.Load() > 0; {
		speaks := s.activity.busy() && time.Since(began) > endingTime // who ends counts for a moment, too
		if speaks || s.isStopped() || hasClient(s.waiting()) || sock.Rest(s.hard, closeLook) != nil {
			return false
		}
	}
	s.activity.lastEnd.Store(last)
	return true
}

// waiting are the sockets to which clients come.
func (s *server) waiting() (fds []unix.PollFd) {
	add := func(fd int) { fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) }
	s.listening.Lock()
	for _, l := range s.listeners {
		add(l.FD)
	}
	s.listening.Unlock()
	if s.relay != nil {
		for _, front := range s.relay.fronts {
			add(front.FD)
		}
	}
	return fds
}

// hasClient asks without waiting.
func hasClient(fds []unix.PollFd) bool {
	return slices.ContainsFunc(fds, func(p unix.PollFd) bool { return sock.Ready(int(p.Fd), p.Events) })
}

// awaitUse waits until somebody comes, or the container is to be stopped.
func (s *server) awaitUse(f *frozen) (use, error) {
	defer s.pokeAtStop()()
	end := f.since.Add(settleTime)
	for {
		state := f.Look()
		called := s.hearCalendar()
		switch {
		case s.isStopped():
			return use{over: true, why: "stopped"}, nil
		case state == reach.Ended:
			return use{over: true, why: s.cfg.Container + " has ended while it was frozen"}, nil
		case called:
			return use{by: wire.Calendar, told: true}, nil
		case s.activity.untilIdle(s.cfg.IdleTimeout) > 0: // an answer to a datagram
			return use{told: true}, nil
		case state == reach.Thawed, f.hasNewcomer():
			s.record.Note(s.cfg.Container + " is thawed by somebody else")
			return use{told: true, foreign: true}, nil
		case state == reach.Frozen && !f.wasFrozen:
			end = s.endOf(f)
			s.noteFrozen(f)
		}
		left := time.Duration(math.MaxInt64)
		if !end.IsZero() {
			left = time.Until(end)
		}
		if f.wasFrozen && (state != reach.Frozen || !f.isSettled()) {
			left = min(left, lookAgain)
		}
		switch {
		case left > 0:
		case !f.wasFrozen:
			return use{}, fmt.Errorf("not all of its processes are after %s", settleTime)
		default:
			return use{over: true, why: fmt.Sprintf("frozen for %s", s.cfg.StopAfter)}, nil
		}
		if came, err := s.await(f, left); came || err != nil {
			return use{}, err
		}
	}
}

// hasNewcomer reports whether somebody has begun something in what was frozen, as
// podman exec does that has come just before.
func (f *frozen) hasNewcomer() bool {
	return f.wasFrozen && slices.ContainsFunc(f.Processes(), func(pid string) bool { return !slices.Contains(f.processes, pid) })
}

// isSettled tells that there is nothing to be seen any more but by an event. The kernel
// tells of two within 10 ms later, and not at all if the cgroup is removed before
// (cgroup_file_notify() and cgroup_rm_file() in kernel/cgroup/cgroup.c).
func (f *frozen) isSettled() bool { return time.Since(f.frozenAt) > 2*lookAgain }

// pokeAtStop has a stop be noticed, until the function that it returns is called.
func (s *server) pokeAtStop() (end func()) {
	ended := make(chan struct{})
	s.background(func() {
		select {
		case <-s.stopped:
			s.freezing.poke()
		case <-ended:
		}
	})
	return func() { close(ended) }
}

// endOf is when a frozen container is stopped; zero: never.
func (s *server) endOf(f *frozen) time.Time {
	if s.cfg.StopAfter == wire.Infinity {
		return time.Time{}
	}
	return f.since.Add(s.cfg.StopAfter)
}

// await waits for an event, and reports whether that is a client.
func (s *server) await(f *frozen, left time.Duration) (came bool, err error) {
	events := append(f.Events(), s.freezing.news)
	var fds []unix.PollFd
	for _, fd := range events {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI})
	}
	fds[len(fds)-1].Events = unix.POLLIN
	fds = append(fds, s.waiting()...)
	const most = math.MaxInt32 // milliseconds
	_, err = unix.Poll(fds, int(min(left.Milliseconds()+1, most)))
	if err != nil && err != unix.EINTR {
		return false, os.NewSyscallError("poll", err)
	}
	if fds[len(events)-1].Revents != 0 {
		var n [8]byte
		_, _ = unix.Read(s.freezing.news, n[:])
	}
	came = slices.ContainsFunc(fds[len(events):], func(p unix.PollFd) bool { return p.Revents != 0 })
	if came && err == nil {
		s.thawing.begin()
	}
	return came && err == nil, nil
}

// noteFrozen is called when all processes are frozen.
func (s *server) noteFrozen(f *frozen) {
	f.wasFrozen, f.frozenAt, f.processes = true, time.Now(), f.Processes()
	s.record.Notify("STATUS=" + s.status())
	f.reclaimed.Go(func() {
		isOver := func() bool {
			select {
			case <-f.over:
				return true
			default:
				return false
			}
		}
		s.freezing.Rest(true)
		if s.cfg.Reclaim && f.Reclaim(isOver) {
			f.after.Store(f.Memory())
		}
		f.tell()
		if !isOver() {
			s.record.Notify("STATUS=" + s.status())
		}
	})
}
