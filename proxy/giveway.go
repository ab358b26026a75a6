package proxy

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// Of services with the same Exclusive= one is awake. Who waits for its turn asks
// the others again and again to give way ([wire.GiveWay]), for as long as it
// waits. Then this proxy serves whoever has come before, lets who is connected
// finish, and says that it is free, however short it has been idle. Who waits
// stops the container then, and the proxy ends with it. Were it to end first, a
// client in the backlog would start the next proxy before systemd has stopped the
// container, and keep it: connections come before jobs (EVENT_PRIORITY_RUN_QUEUE
// in systemd's manager.h). So that one stays in the backlog, and waits for the next
// turn.

const (
	// askedFor is how long a question counts. It comes once a second, and later on a
	// busy machine: a proxy that went on while systemd stops its container would have
	// it started again.
	askedFor = 15 * time.Second
	// firstServed is how long who has woken the container may take to be seen: a
	// proxy that gave way at once would serve nobody, and wait again.
	firstServed = time.Second
)

// way is whether others wait.
type way struct {
	asked atomic.Int64  // when they asked last, in nanoseconds since the epoch
	news  chan struct{} // holds an element when they have
	free  atomic.Bool   // nobody is connected, and nobody is let in
}

func newWay() way { return way{news: make(chan struct{}, 1)} }

func (w *way) ask() {
	w.asked.Store(time.Now().UnixNano())
	w.poke()
}

// poke has the wait for the end of the idle time begin anew.
func (w *way) poke() {
	select {
	case w.news <- struct{}{}:
	default: // told already
	}
}

func (w *way) isAsked() bool { return time.Since(time.Unix(0, w.asked.Load())) < askedFor }

// giveWay reports whether the container is gone. Then accepting is settled, as when
// idle; else others do not wait any more, or whoever is there is not one that can
// be waited for: a session of UDP ends by silence alone, one of podman-exec(1), a
// time to stay awake or a stop by itself.
func (s *server) giveWay() bool {
	begun := s.activity.accepted.Load() > 0 || time.Since(s.activity.start) > firstServed
	if !s.way.isAsked() || !begun || !s.mayGiveWay() {
		return false
	}
	s.pause()
	container, err := s.cgroup.ID()
	if err != nil {
		s.resume()
		return false
	}
	s.listening.Lock()
	listeners := slices.Clone(s.listeners)
	s.listening.Unlock()
	for _, l := range listeners {
		if !l.lent { // of the others the stand-in keeps who waits
			l.takeRest(s.acceptAll)
		}
	}
	s.makeRoom(true)
	defer s.makeRoom(false)
	for unused := time.Now(); s.way.isAsked() && !s.isStopped() && s.mayGiveWay(); {
		s.lookAgain()
		if s.activity.busy() {
			unused = time.Now()
		}
		free := s.isFree(time.Since(unused))
		if free && !s.way.free.Load() && s.hasSession() {
			break
		}
		s.tellFree(free)
		if now, err := s.cgroup.ID(); free && (err != nil || now != container) {
			return true
		}
		if sock.Rest(s.hard, 10*time.Millisecond) != nil {
			break
		}
	}
	s.tellFree(false)
	s.resume()
	return false
}

// isFree reports whether the container can be stopped that has been of no use for so
// long. Who is still to say whether it is one is let in, leaves, or has had the time.
func (s *server) isFree(unused time.Duration) bool {
	return !s.activity.busy() && (s.activity.apart.Load() == 0 || unused > grace+s.porter.patience)
}

// tellFree has systemd know at once whether the container may be stopped.
func (s *server) tellFree(free bool) {
	if s.way.free.Swap(free) != free {
		s.record.Notify("STATUS=" + s.status())
	}
}

func (s *server) mayGiveWay() bool {
	s.hearCalendar()
	return s.activity.sessions.Load() == 0 && time.Since(s.activity.start) >= time.Duration(s.activity.awake.Load())
}
