package generator

import "github.com/zerolet/zerolet/quadlet/scale"

// Of two files of one name below a search directory Quadlet reads the one that it
// finds first, and says nothing of the other (loadUnitsFromDir in Podman's
// cmd/quadlet/main.go). So does zerolet, but for the silence.

// checkHidden tells of files that are not read where one of the two is scaled.
func (p *Plan) checkHidden() {
	endpoints := make(map[string]*Endpoint)
	for f, e := range p.byMember() {
		endpoints[f.Path] = e
	}
	for _, hidden := range p.Sources.Hidden() {
		f, _ := p.Sources.Load(hidden.Path)
		ds := &p.Diagnostics
		if e := endpoints[hidden.By]; e != nil {
			ds = &e.Diagnostics
		} else if !scale.HasSection(f) {
			continue
		}
		ds.Warnf(f.UnitPos(), "rename one of the two",
			"not read, as by Quadlet: %s has the same name, and is found first", hidden.By)
	}
}
