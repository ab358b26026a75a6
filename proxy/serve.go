package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/carry"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// spareFiles are descriptors that no connection may take: the helper's
// sockets, the journal.
const spareFiles = 64

// Serve forwards connections from the passed sockets until there has been none
// for the idle time, or until stop has got a value and the open ones have
// ended; a second value ends them at once. With [wire.LetGo] among them whoever waits
// in a backlog is taken first, and the sockets are closed. It closes the files.
// The error
// wraps [ErrConfig] if the sockets and cfg do not fit together. What is worth
// telling goes to the journal, or to stderr where there is none.
func Serve(cfg wire.Config, files []*os.File, stop <-chan os.Signal, stderr io.Writer) error {
	s, err := newServer(cfg, files, stderr)
	if err != nil {
		return err
	}
	return s.serve(stop)
}

// AwaitReader has journald read what a process that is about to end has said on stderr,
// so that its unit is known. It waits for a bounded time, and for journald alone.
func AwaitReader(stderr io.Writer) {
	if f, ok := stderr.(*os.File); ok {
		report.AwaitReader(f)
	}
}

// serve is the straight line from ready to the end.
func (s *server) serve(stop <-chan os.Signal) error {
	defer s.close()
	if s.porter == nil { // else the wake is yet to come
		s.activity.stay(s.cfg.StayAwake)
	}
	s.hearCalendar()
	s.background(s.thawLeft)
	s.findAwake()
	s.resume()
	first := s.status()
	s.record.Notify("READY=1\nSTATUS=" + first)
	s.background(func() { s.keepStatus(first) })
	s.background(func() { s.watchStop(stop) })
	s.background(s.watchPressure)

	if s.standIn != nil {
		s.background(s.takeStandIn)
	}
	if s.cfg.ConnectionIdleTimeout != wire.Infinity {
		s.background(s.watchSilence)
	}

	why := s.untilIdleOrStopped()
	if s.leaving.Load() {
		s.letGo()
	}
	s.record.Notify("STOPPING=1")
	s.afterStopping()
	if !s.isStopped() && s.calendar.called() {
		return errCalled
	}
	s.drain()
	s.record.Sleep(why, s.activity.accepted.Load(), s.activity.In.Load(), s.activity.Out.Load())
	return nil
}

// server is the proxy at work.
type server struct {
	shared
	standIn   *standIn // nil if it has none
	listening sync.Mutex
	running   bool        // the listeners accept
	listeners []*listener // with those of the stand-in
	targets   map[wire.Address]*target
	cgroup    *reach.Cgroup
	source    reach.Source
	files     *reach.Files // where targets are unix sockets
	relay     *relay       // nil without UDP sockets
	asking    atomic.Bool  // for isReady
	full      error        // why there is no more room
	probe     *probe       // nil if the app is ready once it accepts
	calendar  calendar
	way       way
	work      work
	entry     *reach.Entry // nil: the proxy looks itself
	freezing  *freezing
	hurried   atomic.Int64 // the idle time while memory is short, in nanoseconds; 0: it is not

	pressureFile string

	accepting sync.WaitGroup
	others    sync.WaitGroup
	paused    chan struct{} // closed when the accept loops are to end

	stopped chan struct{} // closed by the first signal
	leaving atomic.Bool   // the first signal was wire.LetGo
	ending  chan struct{} // closed when the proxy is about to return
	cutOff  func()        // ends hard

	// What tests do at the edge of idleness: before the accept loops are told
	// to end, between their end and the count, and once systemd knows of the end.
	beforePause, afterPause, afterStopping func()
}

func newServer(cfg wire.Config, files []*os.File, stderr io.Writer) (*server, error) {
	standIn, files, err := newStandIn(cfg, files)
	if err != nil {
		return nil, err
	}
	listeners, missing, err := newListeners(files, cfg.Forwards)
	if err != nil {
		return nil, err
	}
	loops, err := carry.NewLoops()
	if err != nil {
		closeAll(listeners)
		return nil, err
	}
	s := &server{
		standIn: standIn, listeners: listeners, targets: make(map[wire.Address]*target),
		stopped: make(chan struct{}), ending: make(chan struct{}),
		beforePause: func() {}, afterPause: func() {}, afterStopping: func() {},
		calendar: calendar{path: cfg.Calendar},
		way:      newWay(), pressureFile: pressureFile,
	}
	s.cfg, s.loops = cfg, loops
	s.resetGrace, s.answerPatience = defaultResetGrace, defaultAnswerPatience
	s.activity, s.record = newActivity(), report.New(cfg.Container, stderr)
	if cfg.ReadyCheck == wire.NoCheck {
		s.resetGrace = 0
	}
	hard, cancel := context.WithCancel(context.Background())
	s.hard, s.cutOff = hard, func() {
		cancel()
		loops.Cut()
	}
	s.starter = &starter{unit: cfg.Start, begins: s.wakes, failing: s.record.Retrying, background: s.background, hard: s.hard}
	s.visits = s.newVisits()
	s.porter = s.newPorter()
	s.cgroup = reach.NewCgroup(append([]string{cfg.Container}, cfg.Members...)...)
	s.source = reach.New(cfg, s.cgroup, s.record.Note)
	s.files = reach.NewFiles(s.cgroup, cfg.Volumes)
	s.entry = reach.NewEntry(cfg, s.source)
	if s.freezing, err = newFreezing(cfg, s.entry); err != nil {
		s.close()
		return nil, err
	}
	for _, f := range cfg.Forwards {
		s.targets[f.Listen] = s.newTarget(f.Target)
	}
	s.checkReadiness()
	if err := s.divide(); err != nil {
		s.close()
		return nil, err
	}
	for _, f := range missing {
		s.record.Warn(fmt.Sprintf("no socket was passed for %s; restart the socket unit to open it", f.Listen))
	}
	return s, nil
}

// divide gives the UDP sockets to a relay, and settles how many clients fit. A
// connection takes two descriptors, and one that is held must find the second or
// it holds the first for nothing; a session takes one.
func (s *server) divide() (err error) {
	isUDP := func(l *listener) bool { return l.forward.Listen.Network == wire.UDP }
	files, sessions := freeFiles(), int64(0)
	if slices.ContainsFunc(s.listeners, isUDP) {
		sessions = max(1, min(maxSessions, files/2))
		s.relay, err = s.newRelay(slices.DeleteFunc(slices.Clone(s.listeners), func(l *listener) bool { return !isUDP(l) }), int(sessions))
		s.listeners = slices.DeleteFunc(s.listeners, isUDP)
	}
	s.limitOpen(max(1, (files-sessions)/2))
	s.limitHeld()
	return err
}

// newTarget finds the way to the app. A unix socket is in the file system,
// whatever the container's network.
func (s *server) newTarget(addr wire.Address) *target {
	source, inside := s.source, s.cfg.Inside()
	if addr.Network == wire.Unix {
		source, inside = s.files, false
	}
	t := newTarget(addr, inside, source, s.record.Retrying)
	t.background = s.background
	return t
}

// checkReadiness has all targets wait for what the first one answers.
func (s *server) checkReadiness() {
	if s.cfg.ReadyCheck == "" || s.cfg.ReadyCheck == wire.NoCheck {
		return
	}
	p := newProbe(s.cfg.ReadyCheck, s.cfg.Started)
	s.probe = p
	if s.cfg.ProxyProtocol != 0 {
		p.header = proxyHeader(s.cfg.ProxyProtocol, wire.Address{}, wire.Address{})
	}
	for _, f := range s.cfg.Forwards {
		if t := s.targets[f.Listen]; f.Listen.Network != wire.UDP {
			if p.target == nil {
				p.target = t
			}
			t.probe = p
		}
	}
}

// isReady is for who cannot wait. It reports whether the container was started
// and is ready, as far as that has to be asked, and has somebody ask.
func (s *server) isReady() bool {
	if s.starter.isDone() && (s.probe == nil || s.probe.isReady()) {
		return true
	}
	if s.asking.CompareAndSwap(false, true) {
		s.background(func() {
			defer s.asking.Store(false)
			if s.starter.start(s.hard) == nil && s.probe != nil {
				_ = s.probe.target.isReady(s.hard)
			}
		})
	}
	return false
}

// limitOpen settles how many connections there may be: what the descriptors
// suffice for, or less.
func (s *server) limitOpen(n int64) {
	s.full = unix.EMFILE
	if most := s.cfg.MaxConnections; most > 0 && most <= n {
		n, s.full = most, fmt.Errorf("%s open, no more are allowed", report.Count(most, "connection"))
	}
	s.slots = make(slots, n)
}

// freeFiles is how many descriptors are left for clients.
func freeFiles() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1
	}
	open, _ := os.ReadDir("/proc/self/fd") // a guess of none will do
	return int64(min(limit.Cur, 1<<30)) - int64(len(open)) - spareFiles
}

func (s *server) background(f func()) { s.others.Go(f) }

// close ends everything and waits for it.
func (s *server) close() {
	s.cutOff()
	s.connections.Wait()
	close(s.ending)
	s.others.Wait()
	if s.relay != nil {
		s.relay.close()
	}
	s.freezing.close()
	if s.entry != nil {
		s.entry.Close()
	}
	s.source.Close()
	s.loops.Close()
	closeAll(s.listeners)
	if s.standIn != nil {
		s.standIn.Close()
	}
}

// resume starts to accept.
func (s *server) resume() {
	s.listening.Lock()
	s.paused, s.running = make(chan struct{}), true
	for _, l := range s.listeners {
		s.begin(l)
	}
	s.listening.Unlock()
	if s.relay != nil {
		s.relay.resume()
	}
}

// begin starts to accept from one socket.
func (s *server) begin(l *listener) {
	l.Unwake()
	loop := make(chan struct{})
	l.loop = loop
	run := s.accepting.Go
	if l.lent {
		run = func(f func()) { go f() }
	}
	run(func() {
		defer close(loop)
		s.acceptAll(l)
	})
}

// add takes more sockets to accept from, now or when that is resumed.
func (s *server) add(ls []*listener) {
	s.listening.Lock()
	defer s.listening.Unlock()
	s.listeners = append(s.listeners, ls...)
	for _, l := range ls {
		if s.running {
			s.begin(l)
		}
	}
	s.freezing.poke()
}

// remove closes sockets that were added.
func (s *server) remove(ls []*listener) {
	var there []*listener
	s.listening.Lock()
	s.listeners = slices.DeleteFunc(s.listeners, func(l *listener) bool {
		if !slices.Contains(ls, l) {
			return false
		}
		there = append(there, l)
		return true
	})
	s.listening.Unlock()
	s.freezing.poke()
	for _, l := range there {
		l.Wake()
		if s.ended(l) {
			l.Close()
		}
	}
}

// pause stops accepting. When it returns, everything that was taken off the
// kernel's backlog has been counted, and what comes now stays in the backlog,
// where it starts the proxy anew.
func (s *server) pause() {
	s.beforePause()
	s.listening.Lock()
	s.running = false
	close(s.paused)
	for _, l := range s.listeners {
		l.Wake()
	}
	s.listening.Unlock()
	s.accepting.Wait()
	s.awaitLent()
	if s.relay != nil {
		s.relay.pause()
	}
	s.afterPause()
}

// untilIdleOrStopped returns with accepting settled, and says why.
func (s *server) untilIdleOrStopped() string {
	for {
		idle, asked := s.activity.waitIdle(s.idleTime(), s.stopped, s.way.news)
		switch {
		case asked && s.giveWay():
			return "gave way"
		case asked, idle && (s.works() || s.hasSession()):
			continue
		}
		s.pause()
		s.lookAgain()
		if idle {
			s.settle()
		}
		s.hearCalendar()
		switch {
		case !idle:
			return "stopped"
		case s.activity.untilIdle(s.idleTime()) <= 0:
			if why, over := s.freeze(); over {
				return why
			}
		}
		s.resume()
	}
}

// whyIdle tells of the idle time that is over.
func (s *server) whyIdle() string {
	if s.hurried.Load() > 0 {
		return fmt.Sprintf("idle for %s, and memory is short", s.idleTime())
	}
	return fmt.Sprintf("idle for %s", s.cfg.IdleTimeout)
}

// isStopped reports whether the proxy ends because it was told to.
func (s *server) isStopped() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

// drain lets the open connections end by themselves, for a while.
func (s *server) drain() {
	if s.cfg.DrainTimeout != wire.Infinity {
		defer time.AfterFunc(s.cfg.DrainTimeout, s.cutOff).Stop()
	}
	s.endSilent()
	s.endPorter()
	s.connections.Wait()
	for s.relay != nil && !s.relay.quiet(s.cfg.IdleTimeout) {
		if sock.Rest(s.hard, 10*time.Millisecond) != nil {
			return
		}
	}
}

// watchStop turns the first signal into stopped, and a second stop into cutOff.
func (s *server) watchStop(stop <-chan os.Signal) {
	first := sync.OnceFunc(func() { close(s.stopped) })
	for stops := 0; ; {
		select {
		case signal := <-stop:
			switch {
			case signal == wire.GiveWay && s.cfg.GivesWay:
				s.way.ask()
				continue
			case signal == wire.GiveWay: // of the calendar, which has left word
				s.freezing.poke()
				continue
			case signal == wire.LetGo:
				s.leaving.Store(true)
			case stops > 0:
				s.cutOff()
				return
			default:
				stops++
			}
			first()
		case <-s.ending:
			return
		}
	}
}

// acceptAll accepts until it is paused. Without the means to take another
// connection it leaves the clients in the backlog for a moment.
func (s *server) acceptAll(l *listener) {
	held := s.targets[l.forward.Listen].held
	for {
		var full noSlot
		fd, peer, err := l.accept(s.slots, held)
		switch {
		case err == nil && l.abandoned.Load():
			sock.New(fd).Reset()
			s.slots.leave()
			held.leave()
			l.Close()
			return
		case err == nil && !allowed(s.cfg.AllowFrom, peer): // the manager did not see to it
			sock.New(fd).Reset()
			s.slots.leave()
			held.leave()
		case err == nil:
			s.activity.begin()
			s.admit(l, fd, peer)
		case carry.IsWoken(err), errors.Is(err, unix.EAGAIN):
			return
		case errors.As(err, &full):
			why := s.full
			if full.in == held {
				why = fmt.Errorf("%s held, no more are allowed", report.Count(int64(cap(held)), "client"))
			}
			s.record.Retrying(fmt.Errorf("others wait to be accepted on %s: %w", l.forward.Listen, why))
			s.makeRoom(true)
			room := full.in.await(s.paused)
			s.makeRoom(false)
			if !room {
				return
			}
		default:
			s.record.Retrying(fmt.Errorf("cannot accept on %s: %w", l.forward.Listen, err))
			if !s.rest(acceptPause) {
				return
			}
		}
	}
}

// rest returns false if accepting is to end.
func (s *server) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.paused:
		return false
	}
}
