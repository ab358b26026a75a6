package proxy

import (
	"container/list"
	"iter"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

const (
	// maxSessions bounds the sessions of a proxy. One takes 3.6 KiB, most of it
	// the kernel's, so that made-up senders cannot have more than 30 MB (docs/internals/security.md).
	maxSessions = 8192
	// briefLimit and steadyLimit are how long a session may be silent. They are not
	// longer than what conntrack keeps a flow for (nf_conntrack_udp_timeout,
	// 30 s, and nf_conntrack_udp_timeout_stream, 120 s): a session has one flow
	// through Podman's NAT for all of its life.
	briefLimit  = 30 * time.Second
	steadyLimit = 90 * time.Second
)

// session is a client of a UDP socket and its own socket to the app. UDP has no
// end, so a session ends by silence.
type session struct {
	front   *front
	from    origin
	to      sock.Sockaddr
	source  []byte // see datagram.source
	backend *sock.Socket
	way     wire.Address // to which the backend is connected

	last     time.Time // something was sent, either way
	answered bool
	steady   bool // the client has spoken again after an answer
	place    *list.Element
}

// limit is how long the session may be silent.
func (s *session) limit() time.Duration {
	if s.steady {
		return steadyLimit
	}
	return briefLimit
}

// sessions is the table of all sessions. The longest silent one is first in
// its list; steady ones have a list of their own, so that a crowd of senders
// that never come back, or were never there, does not drive them out.
type sessions struct {
	all           map[origin]*session
	brief, steady *list.List
	most          int
	activity      *activity
}

func newSessions(most int, a *activity) *sessions {
	return &sessions{all: make(map[origin]*session), brief: list.New(), steady: list.New(), most: most, activity: a}
}

// find returns the client's session unless that has been silent for too long.
func (t *sessions) find(from origin, now time.Time) *session {
	s := t.all[from]
	if s == nil || now.Sub(s.last) > s.limit() {
		return nil
	}
	return s
}

// keep adds a session. The one that is returned has to go for it.
func (t *sessions) keep(s *session) (old *session) {
	switch {
	case len(t.all) < t.most:
	case t.brief.Len() > 0:
		old = t.brief.Front().Value.(*session)
	default:
		old = t.steady.Front().Value.(*session)
	}
	if old != nil {
		t.forget(old)
	}
	t.all[s.from] = s
	s.place = t.brief.PushBack(s)
	t.activity.sessions.Add(1)
	t.activity.accepted.Add(1)
	return old
}

// forget takes a session out of the table, if it is still there.
func (t *sessions) forget(s *session) {
	if t.all[s.from] != s {
		return
	}
	delete(t.all, s.from)
	t.list(s).Remove(s.place)
	t.activity.sessions.Add(-1)
}

func (t *sessions) list(s *session) *list.List {
	if s.steady {
		return t.steady
	}
	return t.brief
}

// expired are the sessions that have been silent for too long. Each has to be
// forgotten before the next is asked for.
func (t *sessions) expired(now time.Time) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, l := range []*list.List{t.brief, t.steady} {
			for e := l.Front(); e != nil; e = l.Front() {
				s := e.Value.(*session)
				if now.Sub(s.last) <= s.limit() || !yield(s) {
					break
				}
			}
		}
	}
}

// nextExpiry is when the next session may have been silent for too long; zero if
// there is none.
func (t *sessions) nextExpiry() (at time.Time) {
	for _, l := range []*list.List{t.brief, t.steady} {
		if e := l.Front(); e != nil {
			s := e.Value.(*session)
			if end := s.last.Add(s.limit()); at.IsZero() || end.Before(at) {
				at = end
			}
		}
	}
	return at
}

// spoken is the client's word, heard the app's.
func (s *session) spoken(now time.Time) {
	t := s.front.relay.sessions
	s.last = now
	if s.place == nil {
		return // not in the table yet
	}
	if s.answered && !s.steady {
		t.brief.Remove(s.place)
		s.steady = true
		s.place = t.steady.PushBack(s)
		return
	}
	t.list(s).MoveToBack(s.place)
}

func (s *session) heard(now time.Time) {
	s.last, s.answered = now, true
	if s.place != nil {
		s.front.relay.sessions.list(s).MoveToBack(s.place)
	}
}
