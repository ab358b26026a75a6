package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Depth is how much is seen of services. Each property of each unit is a question
// of its own, and with 1,000 services they are most of what a look costs.
type Depth int

// How each stands, since when, of which file it was made; and of what all units
// were made, and who needs them.
const (
	Standing Depth = iota
	Dated
	Sourced
	Closely
)

// Host is whom to ask.
type Host struct {
	systemd.Manager
	Proxy string // path of zerolet-proxy, by which an abandoned one is known
}

// All is what there was at one time.
type All struct {
	Services []*Service // in the order of their names
	// Lost are units with such names that run without a file, and may be
	// anybody's.
	Lost []string
}

// Named is the service of that very name, nil if there is none.
func (a *All) Named(name string) *Service {
	i := slices.IndexFunc(a.Services, func(s *Service) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return a.Services[i]
}

// Look sees every scaled container: those that the generator has made units of,
// and those whose file is gone while they run. Whatever their number, the
// manager, the kernel and the journal are asked once.
func (h Host) Look(ctx context.Context, depth Depth) (*All, error) {
	bus, err := h.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	l := look{Host: h, bus: bus, depth: depth}
	if l.loaded, err = bus.Loaded(ctx); err != nil {
		return nil, err
	}
	if err := l.readDirs(ctx); err != nil {
		return nil, err
	}
	all, err := l.services(ctx, l.names())
	if err != nil {
		return nil, err
	}
	if err := h.remember(ctx, all.Services); err != nil {
		return nil, err
	}
	return all, l.lookCloser(ctx, all.Services)
}

// lookCloser sees what hinders those that fail.
func (l *look) lookCloser(ctx context.Context, all []*Service) error {
	var failing []*Service
	for _, s := range all {
		if s.State() == Failing && l.depth < Closely {
			failing = append(failing, s)
		}
	}
	if err := l.fill(ctx, failing, Closely); err != nil {
		return err
	}
	return l.others(ctx, failing)
}

// look is one that is under way.
type look struct {
	Host
	bus    *systemd.Bus
	depth  Depth
	loaded map[string]systemd.Unit       // in the manager's memory; nil: nobody has looked
	made   map[string]generator.Priority // files of generators
}

// readDirs finds what generators have made (systemd.unit(5), "Unit File Load
// Path"). The manager need not have loaded it, and to list all unit files that
// there are takes the manager seconds where 1,000 are scaled.
func (l *look) readDirs(ctx context.Context) error {
	dirs, err := l.bus.UnitPath(ctx)
	if err != nil {
		return err
	}
	l.made = make(map[string]generator.Priority)
	for _, dir := range dirs {
		priority, ok := generatorDir(dir)
		if !ok {
			continue
		}
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, f := range files {
			l.made[f.Name()] = max(l.made[f.Name()], priority)
		}
	}
	return nil
}

// names are those that services may have. Where one of the other units is there,
// so is one of these.
func (l *look) names() []string {
	var names []string
	for unit := range l.loaded {
		if name, k := split(unit); k == wire.Socket || k == wire.Proxy {
			names = append(names, name)
		}
	}
	for unit, priority := range l.made {
		name, k := split(unit)
		if k == wire.Socket || k == wire.Proxy || k == wire.Container && priority == generator.Early {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// services are those of the names that are zerolet's.
func (l *look) services(ctx context.Context, names []string) (*All, error) {
	found := make([]*Service, 0, len(names))
	for _, name := range names {
		found = append(found, &Service{Name: name})
	}
	if err := l.fill(ctx, found, l.depth); err != nil {
		return nil, err
	}
	var odd []*Service // where other units may stand in for the generator's
	for _, s := range found {
		if l.depth < Closely && !Generated(s.Socket) {
			odd = append(odd, s)
		}
	}
	if err := l.fill(ctx, odd, Closely); err != nil {
		return nil, err
	}
	found, err := l.gather(ctx, found)
	if err != nil {
		return nil, err
	}
	all := &All{}
	for _, s := range found {
		if err := l.adopt(ctx, s); err != nil {
			return nil, err
		}
		all.Lost = append(all.Lost, s.lost()...)
		if s.disown(); s.ours() {
			all.Services = append(all.Services, s)
		}
	}
	if err := l.others(ctx, all.Services); err != nil {
		return nil, err
	}
	return all, l.listen(all.Services)
}

// fill asks for what is wanted of the services' units, in one go.
func (l *look) fill(ctx context.Context, all []*Service, depth Depth) error {
	var wanted []systemd.Wanted
	for _, s := range all {
		for k, u := range s.parts() {
			unit := wire.Units()[k].Of(s.Name)
			_, made := l.made[unit]
			switch known := l.loaded[unit]; {
			case known != nil:
				*u = known
				wanted = append(wanted, systemd.Wanted{Name: unit, Properties: properties(wire.Units()[k], known, depth, s.Proxy), Into: *u})
			case made || l.loaded == nil: // to ask for it loads it
				*u = make(systemd.Unit)
				all := slices.Concat(asListed, properties(wire.Units()[k], nil, depth, s.Proxy))
				wanted = append(wanted, systemd.Wanted{Name: unit, Properties: all, Into: *u})
			}
		}
	}
	return l.bus.Fill(ctx, wanted)
}

// What is asked of a unit (org.freedesktop.systemd1(5)). One without a job is in
// the state that is told after that.
var (
	asListed = []string{"Job", "Id", "Description", "LoadState", "ActiveState", "SubState"}
	origin   = []string{"FragmentPath", "Documentation"} // see [Generated]
	changes  = []string{"InactiveExitTimestamp", "ActiveEnterTimestamp", "ActiveExitTimestamp", "InactiveEnterTimestamp"}
)

// properties are those that matter of a unit as it is known so far.
func properties(kind wire.Unit, known systemd.Unit, depth Depth, proxy systemd.Unit) []string {
	var all []string
	switch kind {
	case wire.Socket:
		all = append(all, "Listen")
		if depth >= Dated {
			all = append(all, "ActiveEnterTimestamp")
		}
		if depth >= Dated && !known.Is("active") {
			all = append(all, "InactiveEnterTimestamp")
		}
		if depth == Closely {
			all = append(all, "UnitFileState", "IPAddressAllow")
		}
	case wire.Proxy:
		if !known.Is("inactive") {
			all = append(all, "StatusText", "MainPID", "InactiveExitTimestamp", "InactiveEnterTimestamp")
		}
		if depth == Closely {
			all = append(all, "ExecStart")
		}
	case wire.Container:
		switch { // while both rest, it only matters since when
		case depth == Closely || !known.Is("inactive"):
			all = append(all, "Result", "ExecCondition")
			all = append(all, changes...)
		case depth >= Dated || proxy != nil && !proxy.Is("inactive"):
			all = append(all, "InactiveEnterTimestamp")
		}
		if depth == Closely {
			all = append(all, "Requires", "BindsTo", "Conditions", "Asserts")
			all = append(all, systemd.Dependents...)
		}
	case wire.Open:
		all = append(all, "NRestarts")
	case wire.Timer:
		all = append(all, "NextElapseUSecRealtime")
	case wire.StandIn:
		all = append(all, "ExecStart")
	}
	if kind == wire.Socket || depth == Closely {
		all = append(all, origin...)
	}
	if kind == wire.Socket && depth >= Sourced || depth == Closely {
		all = append(all, "SourcePath")
	}
	return all
}

// others sees how the units stand that the services have to do with.
func (l *look) others(ctx context.Context, all []*Service) error {
	units := l.loaded
	if units == nil {
		units = make(map[string]systemd.Unit)
		var wanted []systemd.Wanted
		for _, s := range all {
			_, rivals := s.Rivals()
			for i, name := range rivals {
				rivals[i] = wire.Container.Of(name)
			}
			for _, name := range slices.Concat(s.Others(), s.needs(), rivals) {
				units[name] = make(systemd.Unit)
				wanted = append(wanted, systemd.Wanted{Name: name, Properties: []string{"ActiveState", "SubState", "InactiveExitTimestamp"}, Into: units[name]})
			}
		}
		if err := l.bus.Fill(ctx, wanted); err != nil {
			return err
		}
	}
	for _, s := range all {
		if group, rivals := s.Rivals(); group != "" {
			s.Before = slices.DeleteFunc(rivals, func(name string) bool {
				u := units[wire.Container.Of(name)]
				return u.Is("inactive", "failed", "") || u["SubState"] == "condition"
			})
			s.Group = group
		}
		s.HeldBy, s.missing, s.needStarts = nil, nil, false
		for _, name := range s.Others() {
			if units[name].Is("active", "reloading", "activating") {
				s.HeldBy = append(s.HeldBy, name)
			}
		}
		for _, name := range s.needs() {
			u := units[name]
			// One that is asleep, too, may just not be needed now; not so a mount.
			if u.Is("failed", "activating", "deactivating") || strings.HasSuffix(name, ".mount") && !u.Is("active") {
				s.missing = append(s.missing, name)
				s.needStarts = s.needStarts || u.Is("activating")
				if at := u.Time("InactiveExitTimestamp"); u.Is("failed") && at.After(s.missed) {
					s.missed = at
				}
			}
		}
	}
	return nil
}

// listen finds the sockets that do not.
func (l *look) listen(all []*Service) error {
	listening, err := Listening(l.Manager)
	if err != nil {
		return err
	}
	for _, s := range all {
		for _, address := range s.Listens() {
			if !s.Dependency() && !listening[address] {
				s.NotListening = append(s.NotListening, address.Address)
			}
		}
		lost := slices.ContainsFunc(s.sockets(true), func(l Listener) bool { return !listening[l] })
		if lost || !s.standsIn() {
			s.NotListening = append(s.NotListening, s.Networks()...)
		}
	}
	return nil
}
