package suggest

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// users are the containers that use one, whether or not their files say that they need
// it: they are in one of its networks, and call it by its name in what they are told, or
// come after it, which has no port.
// If it has no port, and nobody is known who needs it, that is the only other one there
// which has; a reverse proxy, only if there is none.
func (s *search) users(used *generator.Endpoint, plan *generator.Plan) []*generator.Endpoint {
	var callers, others, fronts []*generator.Endpoint
	for _, e := range plan.Endpoints {
		if e == used || e.Refused() || !shareNetwork(e.Spec.File, used.Spec.File) || findsStandIn(e.Spec.File, used) {
			continue
		}
		if s.calls(e.Files(), used) || s.follows(e, used) {
			callers = append(callers, e)
		}
		switch {
		case e.Spec.Dependency():
		case s.isFront(e.Spec.File):
			fronts = append(fronts, e)
		default:
			others = append(others, e)
		}
	}
	if len(others) == 0 {
		others = fronts
	}
	if len(callers) == 0 && len(others) == 1 && used.Spec.Dependency() && len(used.Needs) == 0 {
		return others
	}
	return callers
}

// outsiders are the containers without a section that call one by its name.
func (s *search) outsiders(used *generator.Endpoint, plan *generator.Plan) []*quadlet.File {
	scaled := make(map[string]bool)
	for _, e := range plan.Endpoints {
		for _, f := range e.Files() {
			scaled[f.Path] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(s.files), func(f *quadlet.File) bool {
		return scaled[f.Path] || !shareNetwork(f, used.Spec.File) || findsStandIn(f, used) || !s.calls([]*quadlet.File{f}, used)
	})
}

// findsStandIn reports whether the names of a container lead to its stand-in on each
// network where another one's file has it: it wakes when it is called.
func findsStandIn(f *quadlet.File, used *generator.Endpoint) bool {
	of := networks(f)
	for _, network := range networks(used.Spec.File) {
		listens := slices.ContainsFunc(used.Spec.OnNetworks(), func(l scale.Listener) bool { return l.HostNetwork == network })
		if !listens && slices.Contains(of, network) {
			return false
		}
	}
	return true
}

// networks are those on which containers reach each other by name.
func networks(f *quadlet.File) (names []string) {
	for _, e := range f.All(f.Kind(), "Network") {
		name, _, _ := strings.Cut(e.Value, ":")
		if !slices.Contains([]string{"host", "none", "private", "bridge", "pasta", "slirp4netns", "container", "ns"}, name) {
			names = append(names, name)
		}
	}
	return names
}

func shareNetwork(a, b *quadlet.File) bool {
	of := networks(b)
	return slices.ContainsFunc(networks(a), func(name string) bool { return slices.Contains(of, name) })
}

// follows reports whether a container starts after another one, which has no port and
// no other clients as far as is known, and is none that passes clients on to it.
func (s *search) follows(e, used *generator.Endpoint) bool {
	if !used.Spec.Dependency() || s.mayBeBehind(used.Spec.File) || slices.ContainsFunc(e.Files(), s.isFront) {
		return false
	}
	return slices.ContainsFunc(e.Files(), func(f *quadlet.File) bool {
		return slices.ContainsFunc(used.Files(), func(other *quadlet.File) bool { return mentions(f, "After", other) })
	})
}

// calls reports whether a name of an endpoint stands in what the containers of files
// are told.
func (s *search) calls(files []*quadlet.File, used *generator.Endpoint) bool {
	names := append(namesOf(used.Files()), used.Spec.Pods...)
	return slices.ContainsFunc(files, func(f *quadlet.File) bool { return s.names(f, names) })
}

// names reports whether a file's container is told one of some names.
func (s *search) names(f *quadlet.File, names []string) bool {
	return slices.ContainsFunc(s.told(f), func(text string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return hasWord(text, name) })
	})
}

// namesOf are those by which the containers of files are found in a network.
func namesOf(files []*quadlet.File) (names []string) {
	for _, f := range files {
		if name, known := f.ContainerName(); known {
			names = append(names, name)
		}
		if name, known := f.PodName(); known {
			names = append(names, name)
		}
		for _, key := range []string{"NetworkAlias", "HostName"} {
			for _, entry := range f.All(f.Kind(), key) {
				names = append(names, entry.Value)
			}
		}
	}
	return names
}

// hasWord reports whether a name stands in a text by itself, as the host of an
// address does.
func hasWord(text, name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	for at := 0; name != ""; {
		i := strings.Index(text[at:], name)
		if i < 0 {
			return false
		}
		from, to := at+i, at+i+len(name)
		if (from == 0 || !strings.Contains(letters, text[from-1:from])) && (to == len(text) || !strings.Contains(letters, text[to:to+1])) {
			return true
		}
		at = from + 1
	}
	return false
}
