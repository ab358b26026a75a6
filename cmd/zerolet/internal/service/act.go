package service

import (
	"os"
	"slices"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Works reports whether a client can be served, or is.
func (s *Service) Works() bool {
	return s.Socket.Is("active") && s.Socket.Found() || s.Dependency() && s.Container.Is("active")
}

// Running are the units of the service that run and are zerolet's to stop. The
// entry ends with the proxy, and systemctl fails over a unit that is not loaded
// any more: its units come first.
func (s *Service) Running() (names []string) {
	for _, m := range s.Members { // without a file, what binds them to the pod is forgotten
		if s.Owns(m.Container) && m.Container.Is("active", "activating", "reloading") {
			names = append(names, wire.Container.Of(m.Name))
		}
	}
	for k, unit := range slices.Backward(s.parts()) {
		if s.Owns(*unit) && unit.Is("active", "activating", "reloading") {
			names = append(names, wire.Units()[k].Of(s.Name))
		}
	}
	return names
}

// Changed are the units whose files do not say what they are going to say.
func (s *Service) Changed(units []generator.Unit) []string {
	var names []string
	for k, has := range s.parts() {
		name := wire.Units()[k].Of(s.Name)
		i := slices.IndexFunc(units, func(u generator.Unit) bool { return u.Name == name })
		if i < 0 || !Generated(*has) {
			continue
		}
		if text, err := os.ReadFile((*has)["FragmentPath"]); err == nil && !units[i].Same(text) {
			names = append(names, name)
		}
	}
	for _, m := range s.Members {
		names = append(names, m.Changed(units)...)
	}
	return names
}

// Starts are systemctl's arguments for what a client does not start, or may
// not. An app with Mode=native has to find its first one waiting: else nobody
// sees when it begins to accept.
func (s *Service) Starts() [][]string {
	var all [][]string
	if !s.Socket.Is("active") {
		all = append(all, []string{"start", "--", wire.Socket.Of(s.Name)})
	}
	if s.GivenUp() {
		return append(all, []string{"start", "--no-block", "--", wire.Container.Of(s.Name)})
	}
	switch {
	case s.Opener.Found():
		return all
	case s.Target.Found():
		return append(all, []string{"start", "--no-block", "--", wire.Wake.Of(s.Name)})
	}
	return append(all, []string{"start", "--no-block", "--", wire.Proxy.Of(s.Name)})
}
