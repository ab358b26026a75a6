package service

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Record is what zerolet-proxy has told the journal.
type Record struct {
	Time time.Time
	Peer string
	Took time.Duration // how long the client waited, as far as the proxy knows
	Text string

	Frozen  bool // it was not started for this wake
	Stopped bool // the proxy, before the client got an answer

	proxy string // which run of it
}

// Wake is one that succeeded, as it is told in JSON.
type Wake struct {
	Time    time.Time `json:"time"`
	Client  string    `json:"client"`
	Seconds float64   `json:"seconds"`
	Frozen  bool      `json:"frozen,omitempty"`
}

// Client is the address of the peer, without its port.
func (r Record) Client() string {
	if a, err := netip.ParseAddrPort(strings.TrimPrefix(r.Peer, "udp:")); err == nil {
		return a.Addr().Unmap().String()
	}
	return r.Peer
}

func newRecord(e systemd.Entry) Record {
	return Record{
		Time: e.Time(), Peer: e.Text(wire.FieldPeer), Text: e.Text("MESSAGE"),
		Took:    time.Duration(e.Number(wire.FieldReady)) * time.Microsecond,
		Frozen:  e.Text(wire.FieldFrom) == wire.Frozen,
		Stopped: e.Text(wire.FieldEvent) == wire.Stop,
		proxy:   e.Text("_SYSTEMD_INVOCATION_ID"),
	}
}

// ofRecords are the fields of records.
var ofRecords = []string{"MESSAGE", wire.FieldEvent, wire.FieldPeer, wire.FieldReady, wire.FieldFrom, wire.FieldBefore, wire.FieldAfter, "_SYSTEMD_INVOCATION_ID"}

const (
	// few units are named to journalctl. With many, it takes longer to look for
	// each of them than to pass by what others have told.
	few = 50
	// memory is how many records are read of a large journal, some 25 µs each. Of
	// services that were not among them only the proxies are asked for, by name.
	memory = 5_000
)

// remember finds each service's last wake, and what has failed since.
func (h Host) remember(ctx context.Context, all []*Service) error {
	accounts := make([]*account, 0, len(all))
	open := make(map[string]*account) // by the units of which there is more to hear
	for _, s := range all {
		a := &account{Service: s}
		accounts = append(accounts, a)
		open[wire.Container.Of(s.Name)] = a
		if !s.Dependency() {
			open[wire.Proxy.Of(s.Name)] = a
		}
		for _, m := range s.Members {
			a := &account{Service: m}
			accounts = append(accounts, a)
			open[wire.Container.Of(m.Name)] = a
		}
	}
	read := 0
	find := func(e systemd.Entry) bool {
		read++
		unit := h.about(e)
		a, speaks := open[unit], h.FromManager(e)
		if a == nil || speaks != (unit == wire.Container.Of(a.Name)) { // a container may say what it likes
			return true
		}
		if a.add(e, speaks) {
			delete(open, wire.Container.Of(a.Name))
			delete(open, wire.Proxy.Of(a.Name))
		}
		return len(open) > 0
	}
	if len(open) == 0 {
		return nil
	}
	var units []string
	if len(open) <= few {
		units = slices.Collect(maps.Keys(open))
	}
	err := h.Journal(ctx, newest(h.told(units), h.said(units)), find)
	if proxies := unheard(open); err == nil && read >= memory && len(proxies) > 0 {
		err = h.Journal(ctx, newest(h.said(proxies)), find)
	}
	for _, a := range accounts {
		a.close()
	}
	return err
}

func newest(match ...[]string) systemd.Query {
	return systemd.Query{Newest: true, Last: memory, Fields: ofRecords, Match: match}
}

// told matches what systemd says of the units, or of all.
func (h Host) told(units []string) []string {
	return append(h.Told(units...), ids(systemd.Starting, systemd.Started, systemd.Stopping, systemd.Failed, systemd.NoStart)...)
}

// said matches what the proxies among the units say, or all.
func (h Host) said(units []string) []string {
	return append(h.From(units...), ids(wire.WakeMessage, wire.FailMessage, wire.SleepMessage)...)
}

func ids(all ...string) (terms []string) {
	for _, id := range all {
		terms = append(terms, "MESSAGE_ID="+id)
	}
	return terms
}

// unheard are the proxies of which there is more to hear.
func unheard(open map[string]*account) (units []string) {
	for unit, a := range open {
		if unit == wire.Proxy.Of(a.Name) {
			units = append(units, unit)
		}
	}
	return units
}

// account takes what the journal has of one service, the newest first.
type account struct {
	*Service
	slept   Record    // the last sleep
	failure time.Time // of the container's, as long as it may have been to stop
	begun   bool      // a start of the container was met
	ended   bool      // the end of one was
}

// add reports whether it was enough.
func (a *account) add(e systemd.Entry, fromManager bool) bool {
	r := newRecord(e)
	switch id := e.Text("MESSAGE_ID"); {
	case fromManager:
		return a.addOfContainer(id, r.Time)
	case id == wire.WakeMessage && !a.Wake.Time.IsZero():
		return true // of the run before
	case id == wire.WakeMessage:
		a.Wake = r
	case id == wire.SleepMessage && a.slept.Time.IsZero():
		a.slept = r
	case id == wire.FailMessage && a.Failed.Time.IsZero() && a.Wake.Time.IsZero():
		a.Failed = r
	}
	return false
}

// addOfContainer is add for what systemd says. An end that was asked for begins
// with a stop.
func (a *account) addOfContainer(id string, at time.Time) bool {
	woken := !a.Wake.Time.IsZero()
	switch id {
	case systemd.NoStart: // of what it needs, too
		a.ended = true
		a.broke(at)
	case systemd.Failed:
		a.ended = true
		a.failure = at
	case systemd.Stopping:
		a.Asked = a.Asked || !a.begun
		a.ended = true
		a.failure = time.Time{}
	case systemd.Started:
		if woken && a.started.IsZero() {
			a.started = at
		}
	case systemd.Starting:
		a.begun = true
		if a.broke(a.failure); !a.failure.IsZero() && a.tried.IsZero() {
			a.tried = at
		}
		a.failure = time.Time{}
		if woken {
			a.starting = at
		}
		return woken || a.Dependency() && a.ended
	}
	return false
}

// broke keeps the newest.
func (a *account) broke(at time.Time) {
	if a.Broke.IsZero() && at.After(a.Wake.Time) {
		a.Broke = at
	}
}

// close ends the account. What has failed and has come back by itself is no
// failure any more once the proxy that it was woken by has found it of no use.
func (a *account) close() {
	a.broke(a.failure)
	if a.Wake.proxy == a.slept.proxy && a.slept.Time.After(a.Broke) {
		a.Broke = time.Time{}
	}
	if a.Dependency() {
		a.Wake = a.lastStart()
	}
}

// lastStart is the last wake of a dependency: no client has to be let through.
func (s *Service) lastStart() Record {
	starting, started := s.Container.Time("InactiveExitTimestamp"), s.Container.Time("ActiveEnterTimestamp")
	if started.Before(starting) { // that one has failed, or is under way
		return Record{}
	}
	return Record{Time: started, Took: started.Sub(starting)}
}
