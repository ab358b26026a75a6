package generator

import (
	"slices"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// A pod wakes and sleeps as a whole. Quadlet has the pod's service want those of
// its containers, and these are bound to it: each would be needed by the other,
// and StopWhenUnneeded= would stop none. So the pod is made to want nobody
// (StartWithPod=no), and the proxy upholds all of them. When it ends, the
// containers stop, and after them the pod.

// Member is a container of a pod.
type Member struct {
	File    *quadlet.File
	Service *quadlet.File // nil while not converted, or refused

	lazy  bool         // starts only when another container needs it
	once  bool         // ends by itself
	needs []dependency // on others of the pod, by the names of their files
	admin adminUnit
}

// dependency is a line of a unit's section [Unit].
type dependency struct{ key, unit string }

// keepPod has the pod outlive its containers, which sleep before it does. With
// Quadlet's --exit-policy=stop Podman would stop the pod behind systemd's back,
// and a start of a container that has begun meanwhile fails with it.
var keepPod = convert.Setting{Key: "PodmanArgs", Value: "--exit-policy=continue"}

func (e *Endpoint) isKube() bool { return e.Spec.File.Kind() == "Kube" }

func (e *Endpoint) isPod() bool { return e.Spec.File.Kind() == "Pod" }

func (m *Member) service() string { return wire.Container.Of(m.File.Unit()) }

// Files are the file of the endpoint and those of the containers of its pod.
func (e *Endpoint) Files() []*quadlet.File {
	files := []*quadlet.File{e.Spec.File}
	for _, m := range e.Members {
		files = append(files, m.File)
	}
	return files
}

// services are the container's, or the pod's and those of its containers.
func (e *Endpoint) services() []string {
	names := []string{e.name(wire.Container)}
	return append(names, e.MemberServices()...)
}

// MemberServices are those of the pod's containers.
func (e *Endpoint) MemberServices() []string {
	var names []string
	for _, m := range e.Members {
		if m.admin != masked {
			names = append(names, m.service())
		}
	}
	return names
}

// upheld are the services that are up while somebody needs the endpoint.
func (e *Endpoint) upheld() []string {
	return append([]string{e.name(wire.Container)}, e.members(func(m *Member) bool { return !m.lazy && !m.once })...)
}

// jobs are the services that are started for the same, and end.
func (e *Endpoint) jobs() []string {
	return e.members(func(m *Member) bool { return !m.lazy && m.once })
}

func (e *Endpoint) members(are func(*Member) bool) []string {
	var names []string
	for _, m := range e.Members {
		if m.admin != masked && are(m) {
			names = append(names, m.service())
		}
	}
	return names
}

// pods are the files of the pods that are scaled, by their names.
type pods map[string]*quadlet.File

func scaledPods(files []*quadlet.File) pods {
	p := make(pods)
	for _, f := range files {
		if f.Kind() == "Pod" && scale.HasSection(f) {
			p[f.Name()] = f
		}
	}
	return p
}

// of is the pod in which a container is, nil if that is none of them.
func (p pods) of(f *quadlet.File) *quadlet.File {
	pod, _ := scale.PodOf(f)
	return p[pod.Value]
}

// findMembers finds the containers of pods. One with StartWithPod=no that no
// file needs is started by a person or a timer, and by nobody else: it stays as
// Quadlet makes it, and the pod is up while it runs.
func (p *Plan) findMembers(files []*quadlet.File, pods pods) {
	endpoints := p.byFile()
	for _, f := range files {
		e := endpoints[pods.of(f)]
		if e == nil {
			continue
		}
		m := &Member{File: f, once: Ends(f)}
		if with, ok := f.Last("Container", "StartWithPod"); ok {
			yes, err := scale.ParseBool(with.Value)
			if err != nil { // Quadlet would take it for a no
				e.Diagnostics.Value(with, err)
			}
			m.lazy = err == nil && !yes
		}
		if m.lazy && !pulled(f, files) {
			e.need(m.service(), dependency{"BindsTo", e.name(wire.Container)}, e.name(wire.Container), f.UnitPos())
			continue
		}
		e.Members = append(e.Members, m)
		scale.CheckMember(e.Spec, f, &e.Diagnostics)
	}
	for _, e := range p.Endpoints {
		if e.isPod() && len(e.Members) == 0 {
			e.Diagnostics.Errorf(e.Spec.SectionPos(), "write Pod="+e.Spec.File.Name()+" in [Container] of each container",
				"no container starts with this pod: nobody would answer")
		}
	}
}

// pulled reports whether another file starts that of a container.
func pulled(f *quadlet.File, files []*quadlet.File) bool {
	names := []string{f.Name(), wire.Container.Of(f.Unit())}
	for _, other := range files {
		for _, key := range pulling() {
			for _, entry := range other.All("Unit", key) {
				if other != f && slices.ContainsFunc(entry.Words(), func(word string) bool { return slices.Contains(names, word) }) {
					return true
				}
			}
		}
	}
	return false
}

// needInside notes what one file of a pod says about the service of another one.
// All of them are up at the same time anyhow, and stop with the pod.
func (e *Endpoint) needInside(f *quadlet.File, d dependency, word string, pos quadlet.Pos) {
	if f == e.Spec.File {
		e.Diagnostics.Errorf(pos, "leave it out: a pod and its containers start together",
			"%s= names a container of the pod, which waits for the pod itself", d.key)
		return
	}
	i := slices.IndexFunc(e.Members, func(m *Member) bool { return m.File == f })
	if i >= 0 && d.unit != e.name(wire.Container) && word != d.unit {
		e.Members[i].needs = append(e.Members[i].needs, d)
	}
}

// checkInside tells of containers of one pod that keep each other up.
func (p *Plan) checkInside(files []*quadlet.File) {
	starts := make(map[string][]string)
	members := make(map[string]*Endpoint)
	names := make(map[string]string)
	for _, e := range p.Endpoints {
		for _, m := range e.Members {
			members[m.service()] = e
			names[m.service()], names[m.File.Name()] = m.service(), m.service()
		}
	}
	each := func(do func(e *Endpoint, from, to string, pos quadlet.Pos)) {
		for _, f := range files {
			from := wire.Container.Of(f.Unit())
			for _, entry := range f.Entries {
				if members[from] == nil || entry.Section != "Unit" || !slices.Contains(pulling(), entry.Key) {
					continue
				}
				for _, word := range entry.Words() {
					if to := names[word]; to != "" && to != from && members[from] == members[to] {
						do(members[from], from, to, entry.Pos)
					}
				}
			}
		}
	}
	each(func(_ *Endpoint, from, to string, _ quadlet.Pos) { starts[from] = append(starts[from], to) })
	each(func(e *Endpoint, from, to string, pos quadlet.Pos) {
		if reaches(starts, to, from) {
			e.stayAwake(pos, neverBoth, "%s and %s need each other: neither ever sleeps", from, to)
		}
	})
}

// pidFile is where Podman writes the container's pid, if it has to be known when
// the app is another one.
func (m *Member) pidFile() string { return "%t/" + m.File.Unit() + ".pid" }

// override leaves it to others to start the container.
func (m *Member) override(e *Endpoint) convert.Override {
	o := convert.Override{
		File:     m.File,
		Settings: []convert.Setting{{Key: "StartWithPod", Value: "no"}},
		Newer:    startupCheck(m.File),
	}
	if e.asksHTTP() {
		o.Settings = append(o.Settings, convert.Setting{Key: "PodmanArgs", Value: word("--pidfile=" + m.pidFile())})
	}
	return o
}

// units are those of the pod's containers.
func (m *Member) unit(e *Endpoint, l Layout) Unit {
	u := Unit{Name: m.service(), Priority: Early, Source: m.File.Path, Sections: sections(m.Service)}
	e.sleeps(&u, m.Service)
	staysEnded(&u, m.Service)
	e.thawsFirst(l, &u)
	wantsHealth(&u, m.File, m.Service)
	set(&u, "Unit", "Documentation", wire.Member)
	for _, d := range m.needs {
		set(&u, "Unit", d.key, d.unit)
	}
	files := leftovers(m.Service)
	if e.asksHTTP() {
		files = append([]string{word(m.pidFile())}, files...)
	}
	removeLater(&u, files)
	e.tellResult(&u)
	return u
}
