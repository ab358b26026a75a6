// Package watch keeps a container up whose app accepts from the sockets itself:
// it asks the kernel whether there are connections, and shuts the sockets to
// newcomers for the moment in which the container goes. It never accepts one to
// serve it, and reads no byte.
package watch

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

const (
	// firstLook is the time between looks at first, until the app has accepted.
	firstLook = time.Millisecond
	// Between looks at an app in use passes a part of the idle time, within
	// these bounds, and at least lookShare times what a look takes.
	lookPart, shortestLook, longestLook, lookShare = 20, 5 * time.Millisecond, time.Second, 100
	// shutGrace is how long a proxy leaves doors shut that it finds shut, as
	// when somebody starts it while the old container is being stopped.
	shutGrace = 10 * time.Second
	// tellEvery is how often systemd is told the status at most.
	tellEvery = time.Second
)

// Watch looks at the connections of an app that accepts them itself from the
// passed sockets, until there has been none for the idle time or stop has got
// a value. It then leaves the sockets shut, so that an app that is being
// stopped takes no connection along; who stops it calls [Open] afterwards.
// Watch closes the files. The error wraps [ErrConfig] if they are no sockets
// that can be watched.
func Watch(cfg wire.Config, files []*os.File, stop <-chan os.Signal, stderr io.Writer) error {
	w, err := newWatcher(cfg, files, stderr)
	if err != nil {
		return err
	}
	w.watch(stop)
	return nil
}

// watcher is the proxy of a container with its own sockets at work.
type watcher struct {
	cfg      wire.Config
	doors    []door
	diag     *sock.Diag
	bell     chan os.Signal // rings for newcomers
	armed    bool           // the bell
	record   *report.Recorder
	handover handover
	start    time.Time
	pause    time.Duration // between two looks
	reached  bool          // the app accepts
	checked  bool          // forgotten doors were opened
	oldest   netip.AddrPort
	since    time.Time // when oldest was first seen to wait for the app's accept
	status   wire.Status
	told     time.Time // when systemd was told the status
	untold   bool      // there is another one by now
	stopped  chan struct{}

	// What tests do at the edge of idleness: before the doors are shut, and
	// between that and the count.
	beforeShut, afterShut func()
}

func newWatcher(cfg wire.Config, files []*os.File, stderr io.Writer) (*watcher, error) {
	doors, err := newDoors(files)
	if err != nil {
		return nil, err
	}
	if err := refuse(doors); err != nil {
		closeDoors(doors)
		return nil, err
	}
	w := &watcher{
		cfg: cfg, doors: doors, record: report.New(cfg.Container, stderr), handover: handover{dir: os.Getenv("RUNTIME_DIRECTORY")},
		bell: make(chan os.Signal, 1), start: time.Now(), pause: firstLook, stopped: make(chan struct{}),
		beforeShut: func() {}, afterShut: func() {},
	}
	w.handover.restore(doors)
	if w.diag, err = sock.NewDiag(); err != nil {
		closeDoors(doors)
		return nil, err
	}
	return w, nil
}

// watch is the straight line from ready to the end.
func (w *watcher) watch(stop <-chan os.Signal) {
	ended := make(chan struct{})
	defer w.close()
	defer close(ended)
	go w.watchStop(stop, ended)
	signal.Notify(w.bell, unix.SIGIO) // for good: unhandled, a late one would end the process
	w.record.Notify("READY=1")
	why := w.untilIdleOrStopped()
	w.record.Notify("STOPPING=1")
	w.record.SleepNative(why)
}

func (w *watcher) close() {
	w.arm(false)
	w.diag.Close()
	closeDoors(w.doors)
}

// watchStop turns the first signal into stopped.
func (w *watcher) watchStop(stop <-chan os.Signal, ended <-chan struct{}) {
	select {
	case <-stop:
		close(w.stopped)
	case <-ended:
	}
}

// untilIdleOrStopped returns with the doors shut, and says why.
func (w *watcher) untilIdleOrStopped() string {
	var unused time.Time // since when there is no connection; zero while there is one
	for {
		began := time.Now()
		u := w.look()
		if u.open == 0 && !w.armed {
			w.arm(true)
			u = w.look()
		}
		w.openForgotten()
		w.turnAway(u)
		switch {
		case u.open > 0:
			unused = time.Time{}
		case unused.IsZero():
			unused = time.Now()
		}
		idleAt := w.idleAt(unused)
		w.tell(u, idleAt)
		switch {
		case w.isStopped():
			w.shut()
			return "stopped"
		case u.open > 0:
			w.arm(false)
			w.rest(max(w.pause, lookShare*time.Since(began)))
		case !idleAt.IsZero() && !time.Now().Before(idleAt):
			if w.shutUnused() {
				return fmt.Sprintf("idle for %s", w.cfg.IdleTimeout)
			}
		case w.awaitNewcomer(w.tellAt(idleAt)):
			// It may be gone before the next look.
			unused = time.Time{}
			w.rest(w.pause)
		}
	}
}

// idleAt is when the idle time is over, or zero: never, or not known yet.
func (w *watcher) idleAt(unused time.Time) time.Time {
	if unused.IsZero() || w.cfg.IdleTimeout == wire.Infinity {
		return time.Time{}
	}
	return unused.Add(w.cfg.IdleTimeout)
}

func (w *watcher) isStopped() bool {
	select {
	case <-w.stopped:
		return true
	default:
		return false
	}
}

// rest waits, but not longer than until stopped. The next time it is longer.
func (w *watcher) rest(d time.Duration) {
	w.pause = min(2*w.pause, max(shortestLook, min(w.cfg.IdleTimeout/lookPart, longestLook)))
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.stopped:
	}
}

// awaitNewcomer waits until a client connects, or with false until the time is
// over or w is stopped. The bell, which must be armed, is not afterwards: one
// client rings like many.
func (w *watcher) awaitNewcomer(until time.Time) bool {
	var over <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-w.bell:
		w.arm(false)
		return true
	case <-over:
	case <-w.stopped:
	}
	return false
}

// arm has the doors send SIGIO for each client, or not (socket(7), O_ASYNC).
// poll(2) and its like would not do: they tell of a client that waits, and the
// app may have accepted it, and be done with it, before they return.
func (w *watcher) arm(on bool) {
	w.armed = on
	for _, d := range w.doors {
		if err := d.ring(on); err != nil {
			w.record.Retrying(fmt.Errorf("%s does not tell of clients: %w", d.addr, err))
		}
	}
}

// use is what the connections of all doors are at one time.
type use struct {
	open    int              // from the first half of a handshake until the app has closed
	waiting []netip.AddrPort // clients that the app has not accepted
	peer    netip.AddrPort   // one that it has
}

// add counts a connection.
func (u *use) add(s sock.Info) {
	switch {
	case s.Owned():
		u.open++
		u.peer = s.Remote
	case s.State == unix.BPF_TCP_ESTABLISHED || s.State == unix.BPF_TCP_CLOSE_WAIT:
		u.open++
		u.waiting = append(u.waiting, s.Remote)
	case s.State == unix.BPF_TCP_SYN_RECV:
		u.open++
	}
}

// look asks the kernel. While it does not tell, the app counts as in use.
func (w *watcher) look() use {
	w.handover.note(w.doors)
	var u use
	for _, d := range w.doors {
		if err := w.diag.Each(d.v6, d.addr, sock.InUse, u.add); err != nil {
			w.record.Retrying(fmt.Errorf("cannot tell whether %s is in use: %w", w.cfg.Container, err))
			u.open++
		}
	}
	if !w.reached && len(u.waiting) == 0 {
		w.reached = true
		peer := ""
		if u.peer.IsValid() {
			peer = u.peer.String()
		}
		w.record.Wake(peer, time.Since(w.start))
	}
	return u
}

// shutUnused shuts the doors unless somebody is inside.
func (w *watcher) shutUnused() bool {
	w.beforeShut()
	if !w.shut() {
		w.open()
		w.rest(longestLook)
		return false
	}
	w.afterShut()
	if w.look().open == 0 {
		return true
	}
	w.open()
	return false
}

// shut shuts all doors. When it returns, nobody is between door and count.
func (w *watcher) shut() bool {
	w.handover.set("shut", true)
	for _, d := range w.doors {
		if err := d.shut(); err != nil {
			w.record.Retrying(fmt.Errorf("cannot keep clients of %s out while %s stops: %w", d.addr, w.cfg.Container, err))
			return false
		}
	}
	awaitSegments()
	return true
}

func (w *watcher) open() {
	w.handover.set("shut", false)
	for _, d := range w.doors {
		if err := d.open(); err != nil {
			w.record.Retrying(fmt.Errorf("cannot open %s again: %w", d.addr, err))
		}
	}
}

// openForgotten opens, once, doors that nobody else will: at once those of a
// proxy that was restarted.
func (w *watcher) openForgotten() {
	if !w.checked && (w.handover.has("shut") || time.Since(w.start) > shutGrace) {
		w.checked = true
		w.open()
	}
}

// turnAway resets the clients that wait if the app has not accepted one of
// them for the start timeout.
func (w *watcher) turnAway(u use) {
	switch {
	case len(u.waiting) == 0:
		w.oldest = netip.AddrPort{}
		return
	case !slices.Contains(u.waiting, w.oldest):
		w.oldest, w.since = u.waiting[0], time.Now()
	}
	if w.cfg.StartTimeout == wire.Infinity || time.Since(w.since) < w.cfg.StartTimeout {
		return
	}
	w.record.TurnedAway(w.oldest.String(), fmt.Sprintf(
		"%s did not accept in time: it failed to start, or its image does not take sockets from systemd (LISTEN_FDS)", w.cfg.Container))
	for _, d := range w.doors {
		if err := d.resetWaiting(len(u.waiting)); err != nil {
			w.record.Retrying(err)
		}
	}
}

// tell tells systemd how it stands, when that has changed, at most once a
// second but for the moment in which the app is reached.
func (w *watcher) tell(u use, idleAt time.Time) {
	now := wire.Status{Open: int64(u.open), Reached: w.reached, Ends: idleAt.Truncate(time.Second)}
	w.untold = now != w.status || w.told.IsZero()
	if !w.untold || time.Since(w.told) < tellEvery && now.Reached == w.status.Reached {
		return
	}
	w.status, w.told, w.untold = now, time.Now(), false
	w.record.Notify("STATUS=" + now.Line(report.Count(now.Open, "connection")+" open"))
}

// tellAt is when the wait for a newcomer has to end so that systemd gets to know
// a status that it was not told yet; the given time, if that is earlier.
func (w *watcher) tellAt(until time.Time) time.Time {
	if at := w.told.Add(tellEvery); w.untold && (until.IsZero() || at.Before(until)) {
		return at
	}
	return until
}
