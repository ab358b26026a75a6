package generator

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// What is not scaled is no matter of zerolet's, unless somebody may think that it is.

// tellOnce adds what is about no endpoint: a drop-in may be for several files.
func (p *Plan) tellOnce(ds quadlet.Diagnostics) {
	for _, d := range ds {
		if !slices.Contains(p.Diagnostics, d) {
			p.Diagnostics = append(p.Diagnostics, d)
		}
	}
}

// checkDropins tells what is wrong with drop-ins that open no section, and so do not
// scale their file.
func (p *Plan) checkDropins(read map[*quadlet.File]quadlet.Diagnostics) {
	endpoints := p.byMember()
	for f, ds := range read {
		if endpoints[f] != nil || !scale.Scales(f) {
			continue
		}
		for _, d := range ds {
			opens := func(s quadlet.Section) bool { return s.Pos.File == d.Pos.File }
			if d.Pos.File != f.Path && !slices.ContainsFunc(f.Sections, opens) {
				d.Severity = quadlet.Warning
				p.tellOnce(quadlet.Diagnostics{d})
			}
		}
	}
}
