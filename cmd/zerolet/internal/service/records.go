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
	Took time.Duration // counted from the start of the proxy
	Text string
}

// Wake is one that succeeded, as it is told in JSON.
type Wake struct {
	Time    time.Time `json:"time"`
	Client  string    `json:"client"`
	Seconds float64   `json:"seconds"`
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
		Took: time.Duration(e.Number(wire.FieldReady)) * time.Microsecond,
	}
}

// ofRecords are the fields of records.
var ofRecords = []string{"MESSAGE", wire.FieldPeer, wire.FieldReady}

const (
	// few units are named to journalctl. With many, it takes longer to look for
	// each of them than to pass by what others have told.
	few = 50
	// memory is how many records are read of a large journal, 20 µs each, before
	// the services that were not among them are named all the same.
	memory = 10_000
)

// remember finds each service's last wake, and the last failure since. What was
// told before a wake does not matter any more.
func (h Host) remember(ctx context.Context, all []*Service) error {
	open := make(map[string]*Service) // by the unit that tells
	for _, s := range all {
		if s.Dependency() {
			s.Wake = s.lastStart()
		} else {
			open[wire.Proxy.Of(s.Name)] = s
		}
	}
	if len(open) == 0 {
		return nil
	}
	read := 0
	find := func(e systemd.Entry) bool {
		read++
		unit := h.Sender(e)
		switch s := open[unit]; {
		case s == nil:
		case e.Text("MESSAGE_ID") == wire.WakeMessage:
			s.Wake = newRecord(e)
			delete(open, unit)
		case s.Failed.Time.IsZero():
			s.Failed = newRecord(e)
		}
		return len(open) > 0
	}
	ask := func(units []string) error {
		terms := append(h.From(units...), "MESSAGE_ID="+wire.WakeMessage, "MESSAGE_ID="+wire.FailMessage)
		return h.Journal(ctx, systemd.Query{Newest: true, Last: memory, Fields: ofRecords, Match: [][]string{terms}}, find)
	}
	if len(open) > few {
		if err := ask(nil); err != nil || len(open) == 0 || read < memory {
			return err
		}
	}
	return ask(slices.Collect(maps.Keys(open)))
}

// lastStart is the last wake of a dependency: no client has to be let through.
func (s *Service) lastStart() Record {
	starting, started := s.Container.Time("InactiveExitTimestamp"), s.Container.Time("ActiveEnterTimestamp")
	if started.Before(starting) { // that one has failed, or is under way
		return Record{}
	}
	return Record{Time: started, Took: started.Sub(starting)}
}
