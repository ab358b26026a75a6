package suggest

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// stacks puts the files together that belong together.
func (s *search) stacks(before, after *generator.Plan) []Stack {
	var stacks []Stack
	slept, sleeps := sleepers(before), sleepers(after)
	for _, files := range s.together() {
		stack := Stack{Files: files, Slept: true}
		for _, f := range files {
			if m := s.missing[f.Name()]; m != nil {
				if text := m.text(); text != "" {
					stack.Dropins = append(stack.Dropins, Dropin{f, text})
				}
			}
			if generator.Ends(f) {
				continue
			}
			if !slept[f.Path] {
				stack.Slept = false
			}
			if !sleeps[f.Path] {
				stack.Awake = append(stack.Awake, s.why(f, after))
			}
		}
		stacks = append(stacks, stack)
	}
	return stacks
}

// sleepers are the paths of the files whose containers sleep.
func sleepers(plan *generator.Plan) map[string]bool {
	paths := make(map[string]bool)
	for _, e := range plan.Endpoints {
		for _, f := range e.Files() {
			paths[f.Path] = e.Sleeps()
		}
	}
	return paths
}

// why is the reason for a file that does not sleep.
func (s *search) why(f *quadlet.File, plan *generator.Plan) quadlet.Diagnostic {
	d, known := s.refused[f.Name()]
	if i := slices.IndexFunc(plan.Endpoints, func(e *generator.Endpoint) bool { return e.Spec.File.Path == f.Path }); !known && i >= 0 {
		d, known = s.reason(plan.Endpoints[i]), true
	}
	if e := s.sleeperBehind([]*quadlet.File{f}, plan); e != nil && !s.given[f.Name()] {
		d, known = s.isFrontOf(f, e), true
	}
	if pod := s.podOf(f); !known && pod != nil {
		e, _ := scale.PodOf(f)
		d, known = quadlet.Diagnostic{Pos: e.Pos, Message: "its pod does not"}, true
	}
	if !known {
		d = quadlet.Diagnostic{Pos: f.UnitPos(), Message: "zerolet does not scale ." + strings.ToLower(f.Kind()) + " files"}
	}
	d.Severity = quadlet.Warning
	d.Message = f.Name() + " does not sleep: " + d.Message
	return d
}

// together are the files in groups, each in the order of all.
func (s *search) together() [][]*quadlet.File {
	group := make(map[*quadlet.File]*quadlet.File) // a file to another one of its group, the first to itself
	var first func(f *quadlet.File) *quadlet.File
	first = func(f *quadlet.File) *quadlet.File {
		if group[f] == nil || group[f] == f {
			return f
		}
		return first(group[f])
	}
	members := make(map[string]*quadlet.File) // of a network, by its name
	named := s.byName()
	for _, f := range s.files {
		for _, name := range references(f) {
			if other := named[name]; other != nil && first(f) != first(other) {
				group[first(f)] = first(other)
			}
		}
		for _, name := range networks(f) {
			if members[name] == nil {
				members[name] = f
			}
			if a, b := first(f), first(members[name]); a != b {
				group[a] = b
			}
		}
	}
	index := make(map[*quadlet.File]int)
	var all [][]*quadlet.File
	for _, f := range s.files {
		i, ok := index[first(f)]
		if !ok {
			i = len(all)
			index[first(f)] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], f)
	}
	return all
}

// byName are the files by the names that others have for them.
func (s *search) byName() map[string]*quadlet.File {
	files := make(map[string]*quadlet.File)
	for _, f := range s.files {
		files[f.Name()], files[service(f)] = f, f
		if name, known := f.ContainerName(); known {
			files["container:"+name] = f
		}
	}
	return files
}

// references are the names of other files, or of their services, in a file.
func references(f *quadlet.File) (names []string) {
	for _, e := range f.Entries {
		switch {
		case e.Section == f.Kind() && (e.Key == "Pod" || e.Key == "Network"):
			names = append(names, e.Value)
		case e.Section == "Unit", e.Section == "Install":
			names = append(names, e.Words()...)
		}
	}
	return names
}
