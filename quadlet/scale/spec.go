package scale

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Spec is what a .container, .pod or .kube file with a [ScaleToZero] section asks for.
type Spec struct {
	File         *quadlet.File
	Unit         string // name of the service without ".service"; "" if it cannot be one
	IdleTimeout  Span
	Freezes      bool        // it is frozen after IdleTimeout, and stopped after StopAfter
	SleepPos     quadlet.Pos // where Sleep=freeze is set, if it is
	StopAfter    Span
	Reclaim      bool // the memory of what is frozen
	StartTimeout Span
	StayAwake    Span
	WakeOn       []string // OnCalendar= of a timer
	Exclusive    string   // of those that say the same, one is awake
	ExclusivePos quadlet.Pos
	BusyCPU      int64 // percent of a processor; 0 is off
	AutoStart    bool
	Native       bool // the app itself accepts from the sockets
	Listen       []Listener
	Published    []Published
	Network      Network
	Socket       Socket
	Pods         []string // the names of the pods of a .kube file
	Played       []Played // and of their containers
	Claims       []string // and of their volumes

	StandInPos            quadlet.Pos // where StandIn= is set, if it is
	StandIn               string      // "auto", "leave" or "rename"
	ReadyCheck            string      // "tcp", "none" or "http:/path"
	ConnectionIdleTimeout Span
	ProxyProtocol         string         // "no", "v1" or "v2"
	ClientAddress         string         // "client" or "proxy"
	MaxConnections        int64          // 0 is no limit
	AllowFrom             []netip.Prefix // none is everybody

	Front Front

	search quadlet.Search
}

// Listener is a public side and where the file says so.
type Listener struct {
	Publish
	Pos quadlet.Pos
	// HostFile and ContainerFile are the paths as [quadlet.Search.Expand] has them.
	HostFile, ContainerFile string
}

// Dependency reports whether the section has no port: the container runs while a
// unit that needs it does, and nothing else wakes it.
func (s *Spec) Dependency() bool { return len(s.Listen) == 0 }

// Inside reports whether the app is reached in a network namespace of its own.
func (s *Spec) Inside() bool { return s.Network == Namespace && s.DialsPorts() }

// DialsPorts reports whether the app has to be reached through the network.
func (s *Spec) DialsPorts() bool {
	return !s.Native && slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.ContainerPath == "" })
}

// Read reads the section and what of the rest of the file bears on it. The
// Spec is good for planning only where the diagnostics have no error.
func Read(f *quadlet.File, search quadlet.Search) (*Spec, quadlet.Diagnostics) {
	s := &Spec{File: f, Unit: f.Unit(), search: search}
	var ds quadlet.Diagnostics
	if s.checkInstance(&ds); ds.HasErrors() {
		return s, ds // of ports with "%i" nothing can be said
	}
	s.readSection(&ds)
	s.readPorts(&ds)
	s.readNetwork(search.Manager, &ds)
	CheckCgroup(s, f, &ds)
	s.checkPod(&ds)
	s.readKube(&ds)
	s.checkPorts(&ds)
	s.checkSockets(&ds)
	s.checkStandIn(&ds)
	s.checkLocal(&ds)
	s.checkKeys(&ds)
	s.checkKind(&ds)
	return s, ds
}

func (s *Spec) readSection(ds *quadlet.Diagnostics) {
	for _, k := range keys {
		if err := k.parse(s, k.Default); err != nil {
			panic(fmt.Sprintf("default of %s=: %v", k.Name, err)) // a mistake in the table, not in a file
		}
	}
	for _, e := range s.File.Entries {
		k, known := FindKey(e.Key)
		if !IsSection(e.Section) {
			if known && !strings.HasPrefix(e.Section, "X-") { // which systemd and Quadlet do not read
				ds.Errorf(e.Pos, "move it to [ScaleToZero]", "%s= is a key of [ScaleToZero], not of [%s]", e.Key, e.Section)
			}
			continue
		}
		if !known {
			ds.Errorf(e.Pos, s.didYouMean(e.Key), "unknown key %s= in [%s]", e.Key, e.Section)
			continue
		}
		listeners := len(s.Listen)
		if err := k.parse(s, cmp.Or(e.Value, k.Default)); err != nil {
			ds.Value(e, err)
		}
		for j := listeners; j < len(s.Listen); j++ {
			s.Listen[j].Pos = e.Pos
		}
	}
}

// listen adds one Listen= line; an empty one forgets those before it.
func (s *Spec) listen(value string) error {
	if value == "" {
		s.Listen = nil
		return nil
	}
	ports, _, err := s.parse(value, ParseListen)
	if err != nil {
		return err
	}
	for _, p := range ports {
		for _, one := range p.Each() {
			s.Listen = append(s.Listen, Listener{
				Publish:  one,
				HostFile: s.search.Expand(one.HostPath), ContainerFile: s.search.Expand(one.ContainerPath),
			})
		}
	}
	return nil
}

// allow adds the addresses of one AllowFrom= line; an empty one forgets those
// before it.
func (s *Spec) allow(value string) error {
	if value == "" {
		s.AllowFrom = nil
		return nil
	}
	for word := range strings.FieldsSeq(value) {
		p, err := parsePrefix(word)
		if err != nil {
			return err
		}
		s.AllowFrom = append(s.AllowFrom, p)
	}
	return nil
}

// wakeOn adds one WakeOn= line; an empty one forgets those before it.
func (s *Spec) wakeOn(value string) error {
	if value == "" {
		s.WakeOn = nil
		return nil
	}
	if err := checkCalendar(value); err != nil {
		return err
	}
	s.WakeOn = append(s.WakeOn, value)
	return nil
}

// Setting is the assignment of a key of the section that is in effect. It is
// false if there is none, or it restores the default.
func (s *Spec) Setting(key string) (quadlet.Entry, bool) {
	for _, e := range slices.Backward(s.File.Entries) {
		if IsSection(e.Section) && e.Key == key {
			return e, e.Value != ""
		}
	}
	return quadlet.Entry{}, false
}

// settings are the assignments of a repeatable key that are in effect.
func (s *Spec) settings(key string) (all []quadlet.Entry) {
	for _, e := range s.File.Entries {
		switch {
		case !IsSection(e.Section) || e.Key != key:
		case e.Value == "":
			all = nil
		default:
			all = append(all, e)
		}
	}
	return all
}

// SectionPos is where the section begins.
func (s *Spec) SectionPos() quadlet.Pos {
	return s.File.Sections[slices.IndexFunc(s.File.Sections, func(x quadlet.Section) bool { return IsSection(x.Name) })].Pos
}
