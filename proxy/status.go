package proxy

import (
	"fmt"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/report"
	"github.com/zerolet/zerolet/proxy/wire"
)

// status is the value of STATUS=.
func (s *server) status() string {
	a := s.activity
	connections, sessions := a.open.Load(), a.sessions.Load()+a.held.Load()
	open := report.Count(connections, "connection")
	if sessions > 0 {
		open += " and " + report.Count(sessions, "session")
	}
	open += " open"
	if n := a.silent.Load() + a.apart.Load(); n > 0 {
		open += fmt.Sprintf(" (%d silent)", n)
	}
	now := wire.Status{Open: max(0, connections-a.apart.Load()) + sessions, Reached: a.isReached(), Free: s.way.free.Load()}
	if f := s.freezing.current(); f != nil {
		now.Frozen, now.Ends, now.Before, now.After = f.since, s.endOf(f), f.before, f.after.Load()
		open = "frozen; " + open
	} else if !a.busy() && s.cfg.IdleTimeout != wire.Infinity {
		now.Ends = a.idleAt(s.cfg.IdleTimeout)
	}
	return now.Line(fmt.Sprintf("%s, %s", open, report.Totals(a.accepted.Load(), a.In.Load(), a.Out.Load())))
}

// keepStatus sends STATUS= when it has changed, at most once a second but for
// the moment in which the app is reached. last is what was sent before.
func (s *server) keepStatus(last string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	reached := s.activity.reached
	for {
		select {
		case <-s.ending:
			return
		case <-reached:
			reached = nil // closed: once is enough
		case <-tick.C:
			s.freezing.awaitThaw(s.ending)
		}
		s.hearCalendar()
		s.beginWork()
		s.noticeWake()
		if now := s.status(); now != last {
			last = now
			s.record.Notify("STATUS=" + now)
		}
	}
}
