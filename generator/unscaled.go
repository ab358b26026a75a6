package generator

import (
	"path/filepath"
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

// unscaled is why a file is no endpoint. It is false if there is no such file.
func (p *Plan) unscaled(name string) (quadlet.Diagnostic, bool) {
	var files []*quadlet.File
	for _, path := range p.Sources.Units() {
		f, _ := p.Sources.Load(path)
		files = append(files, f)
	}
	i := slices.IndexFunc(files, func(f *quadlet.File) bool { return isNamed(f, name) })
	if i < 0 {
		return quadlet.Diagnostic{}, false
	}
	f, why := files[i], "it has no [ScaleToZero] section"
	pod, inPod := scale.PodOf(f)
	switch {
	case !scale.Scales(f):
		why = "zerolet scales no " + filepath.Ext(f.Path) + " files"
	case LeftToInstances(f, files):
		why = "it is left to its instances"
	case inPod:
		why = "its pod " + pod.Value + " has no [ScaleToZero] section"
	}
	return quadlet.Diagnostic{Pos: f.UnitPos(), Severity: quadlet.Note, Message: why}, true
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
