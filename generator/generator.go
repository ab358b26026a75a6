package generator

import (
	"context"
	"slices"
	"time"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
)

// quadletTimeout bounds the machine's own Quadlet. It takes milliseconds for
// a hundred files; systemd ends a generator after 90 s.
const quadletTimeout = 20 * time.Second

// Generator makes the plan of one manager from the files on the machine.
type Generator struct {
	Search  quadlet.Search
	Dirs    []string // searched first, without their subdirectories
	Quadlet string   // path of the machine's own Quadlet, or ""
	TempDir string   // see [convert.Config]
	// Processors are how many the machine has, 0 where that is not known.
	Processors int
	// Dropins are drop-ins that are not there, by the names of the files that are
	// to be read as if they were.
	Dropins map[string]*quadlet.File
	// AdminUnit reports whether the administrator has a unit file of this name
	// where it would win over a generated one, and whether it is a mask. Nil is
	// no unit at all.
	AdminUnit func(name string) (exists, masked bool)
}

// Plan reads every file of the manager and plans those that are scaled. What is
// wrong with a file stands in the plan.
func (g Generator) Plan(ctx context.Context) *Plan {
	p := g.Read()
	g.Convert(ctx, p)
	return p
}

// Read is Plan without Quadlet's services.
func (g Generator) Read() *Plan {
	trees, search := g.Search.Trees()
	for _, dir := range slices.Backward(g.Dirs) {
		trees = slices.Insert(trees, 0, quadlet.Tree{dir})
	}
	sources, scan := quadlet.Scan(trees)
	var files []*quadlet.File
	read := make(map[*quadlet.File]quadlet.Diagnostics)
	for _, path := range sources.Units() {
		f, ds := sources.Load(path)
		if d := g.Dropins[f.Name()]; d != nil {
			f.Merge(d)
		}
		files, read[f] = append(files, f), ds
	}
	p := NewPlan(g.Search, files)
	p.Sources, p.Search = sources, append(search, scan...)
	for _, e := range p.Endpoints {
		var ds quadlet.Diagnostics
		for _, f := range e.Files() {
			ds = append(ds, read[f]...)
		}
		e.Diagnostics = append(ds, e.Diagnostics...)
	}
	p.countPlaces(g.Search.Env, g.Processors)
	p.checkHidden()
	p.checkDropins(read)
	if g.AdminUnit != nil {
		p.checkAdmin(g.AdminUnit)
	}
	return p
}

// Convert has Quadlet make the services of what was read.
func (g Generator) Convert(ctx context.Context, p *Plan) {
	p.Convert(ctx, convert.Config{
		Quadlet: g.Quadlet, Manager: g.Search.Manager, Sources: p.Sources,
		TempDir: g.TempDir, Timeout: quadletTimeout,
	})
}
