package service

import (
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
)

// State is how a service stands.
type State string

// The states, as "zerolet status" prints them.
const (
	Asleep       State = "asleep"        // the socket listens, nothing else runs
	Waking       State = "waking"        // the container starts, or its app has not been reached yet
	Awake        State = "awake"         // it serves, or is ready to
	Frozen       State = "frozen"        // its processes are where they were, and go on for the next client
	Stopping     State = "stopping"      // on the way to sleep
	Failing      State = "failing"       // the last attempt to wake it failed, or its file has an error
	NotListening State = "not listening" // nothing wakes it
)

// State judges what was seen.
func (s *Service) State() State {
	switch proxy, container := s.Proxy, s.Container; {
	case s.Refused(), proxy.Is("failed"), proxy["SubState"] == "auto-restart":
		return Failing
	case container.Is("failed") && !s.Asked:
		return Failing
	case s.hindered():
		return Failing
	case container.Is("deactivating") && (s.broken() || container["Result"] != "success" && !s.Asked):
		return Failing
	case container.Is("deactivating"):
		return Stopping
	case container.Is("activating"), proxy.Is("activating"):
		return s.trying()
	case s.unwanted():
		return Asleep
	case proxy.Is("active") && (!container.Is("active", "reloading") || s.Connections() > 0 && !s.Reached()):
		return s.trying()
	case proxy.Is("active") && !s.Reached() && s.failed():
		return Failing
	case container.Is("active", "reloading") && s.isFrozen():
		return Frozen
	case container.Is("active", "reloading"):
		return Awake
	case proxy.Waits(), container.Waits(): // for what the container needs
		return s.trying()
	case s.Dependency():
		return Asleep
	case !s.Socket.Is("active") || len(s.NotListening) > 0 || s.Shut():
		return NotListening
	case s.failed():
		return Failing
	}
	return Asleep
}

// failed reports whether the last attempt to wake it has, other than by a stop.
func (s *Service) failed() bool {
	return s.Failed.Time.After(s.Wake.Time) && !s.Failed.Stopped || s.broken()
}

// broken reports whether the container has failed, and the app was not reached
// since.
func (s *Service) broken() bool { return s.Broke.After(s.Wake.Time) }

// trying is waking, or failing: the proxy runs once the container's first start
// is over (After=), so if the container has not been active since, that failed.
// Where the proxy is first, that start must have ended, too.
func (s *Service) trying() State {
	if s.failed() { // between two tries, too
		return Failing
	}
	began := s.Proxy.Time("InactiveExitTimestamp")
	if s.Proxy.Is("active", "activating") && !s.Container.Is("active", "reloading") &&
		s.Container.Time("ActiveExitTimestamp").Before(began) &&
		(!s.ProxyFirst() || s.Container.Time("InactiveEnterTimestamp").After(began)) {
		return Failing
	}
	return Waking
}

// ProxyFirst reports whether the proxy starts before the container.
func (s *Service) ProxyFirst() bool { return s.Target.Found() || s.Opener.Found() }

// unwanted reports whether the proxy runs, but has had no client who may wake the
// container (AllowFrom=).
func (s *Service) unwanted() bool {
	return s.Target.Found() && !s.Target.Is("active") && s.Connections() == 0 && s.Container.Is("inactive", "failed")
}

// Shut reports whether the sockets were left shut (Mode=native): to open them has
// failed, and may be tried again.
func (s *Service) Shut() bool {
	again := s.Opener["SubState"] == "auto-restart" || s.Opener.Is("activating") && s.Opener["NRestarts"] != "0"
	return !s.Proxy.Is("active") && (s.Opener.Is("failed") || again)
}

// GivenUp reports whether the proxy waits for a container that systemd does not
// start any more: Upholds= tries again when something changes.
func (s *Service) GivenUp() bool {
	return s.Proxy.Is("active") && s.Container.Is("inactive", "failed") && !s.Container.Waits() && !s.unwanted()
}

// FailedSince reports whether an attempt has failed that began since then.
func (s *Service) FailedSince(began time.Time) bool {
	isNews := func(at time.Time) bool { return !at.Before(began) }
	switch {
	case isNews(s.Failed.Time), isNews(s.tried), isNews(s.missed):
		return true
	case s.tried.IsZero() && s.missed.IsZero() && isNews(s.Broke):
		// Nobody knows when that began, but the next try tells.
		return !s.needStarts && !s.Container.Waits() && !s.Container.Time("InactiveExitTimestamp").After(s.Broke)
	case !s.Proxy.Is("active", "activating", "failed") && !s.Container.Is("failed", "activating", "deactivating"):
		return false // an old one, and systemd has not begun yet
	case s.Proxy["SubState"] == "auto-restart", isNews(s.Proxy.Time("InactiveEnterTimestamp")):
		return true
	case s.failed(), s.Container.Is("activating"):
		return false // before this attempt, or the one that is under way tells
	}
	return isNews(s.Container.Time("InactiveExitTimestamp")) || !s.ProxyFirst() && isNews(s.Proxy.Time("InactiveExitTimestamp"))
}

// Since is when the state began, if systemd knows.
func (s *Service) Since() time.Time {
	switch s.State() {
	case Frozen:
		return s.status().Frozen
	case Awake:
		return s.Container.Time("ActiveEnterTimestamp")
	case Waking:
		if !s.Container.Is("activating", "active") {
			return time.Time{}
		}
		return s.Container.Time("InactiveExitTimestamp")
	case Stopping:
		return s.Container.Time("ActiveExitTimestamp")
	case Asleep:
		if at := s.Container.Time("InactiveEnterTimestamp"); !at.IsZero() {
			return at
		}
		return s.Socket.Time("ActiveEnterTimestamp")
	case Failing:
		return s.Container.Time("InactiveEnterTimestamp")
	}
	return s.Socket.Time("InactiveEnterTimestamp")
}

// status is how the proxy stands.
func (s *Service) status() wire.Status { return wire.ParseStatus(s.Proxy["StatusText"]) }

// Connections are those that are open now, held ones and UDP sessions included.
func (s *Service) Connections() int {
	if !s.Proxy.Is("active", "deactivating") {
		return 0
	}
	return int(s.status().Open)
}

// Reached reports whether a client has got through to the app since it started.
func (s *Service) Reached() bool { return s.Proxy.Is("active") && s.status().Reached }

func (s *Service) isFrozen() bool { return s.Proxy.Is("active") && !s.status().Frozen.IsZero() }

// Memory is what the containers had when they were frozen, and what was left of it
// once memory had been reclaimed, in bytes; 0 is not known.
func (s *Service) Memory() (before, after int64) {
	if !s.isFrozen() {
		return 0, 0
	}
	return s.status().Before, s.status().After
}

// SleepsAt is when the service goes to sleep if nobody comes, or stops if it is
// frozen; zero while somebody is there, or if it never does.
func (s *Service) SleepsAt() time.Time {
	if !s.Proxy.Is("active") || s.unwanted() {
		return time.Time{}
	}
	return s.status().Ends
}

// WakesAt is when the calendar wakes the service next; zero without a calendar.
func (s *Service) WakesAt() time.Time { return s.Timer.Time("NextElapseUSecRealtime") }

// ColdStart is how long the last wake took, from the container's start on if
// it was started for it.
func (s *Service) ColdStart() time.Duration {
	return coldStart(s.Wake, s.starting, s.started)
}

// coldStart is how long a wake took. The proxy starts once the container's
// start is over, and counts from there; if the container was up long before,
// nothing was started for this wake.
func coldStart(wake Record, starting, started time.Time) time.Duration {
	if wake.Frozen {
		return wake.Took
	}
	began := wake.Time.Add(-wake.Took) // of the proxy
	if starting.IsZero() || starting.After(began) || started.Before(began.Add(-time.Second)) {
		return wake.Took
	}
	return wake.Time.Sub(starting)
}
