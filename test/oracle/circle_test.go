package oracle

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// TestCircles makes stacks whose files need each other at random, wakes each service of
// them in turn, and lets its proxy end: what stops when it is not needed does, or
// "zerolet check" has told what keeps it up.
func TestCircles(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for _, o := range oracles() {
		if !o.own { // the embedded one knows no pods
			continue
		}
		bin := o.build(t)
		for _, m := range []quadlet.Manager{quadlet.System, quadlet.User} {
			for round := range *rounds {
				s := first + uint64(round)
				t.Run(fmt.Sprintf("%s/%s/seed=%d", o.version, m, s), func(t *testing.T) {
					findCircles(t, bin, m, rand.New(rand.NewPCG(s, 1)))
				})
			}
		}
	}
}

// findCircles has one Quadlet convert many stacks, which have nothing to do with each
// other.
func findCircles(t *testing.T, bin string, m quadlet.Manager, r *rand.Rand) {
	dir := t.TempDir()
	stacks := make(map[string]stack)
	for i := range 100 {
		name := fmt.Sprintf("s%d", i)
		stacks[name] = newStack(r, name, 20000+10*i)
		for file, text := range stacks[name] {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	plan := planOf(t, bin, dir, m)
	units := loaded(t, bin, dir, m, plan)
	told := make(map[string]bool)
	for _, e := range plan.Endpoints {
		if _, awake := e.Awake(); awake {
			told[stackOf(e.Spec.Unit)] = true
		}
	}
	woken, slept := 0, 0
	for _, name := range slices.Sorted(maps.Keys(units)) {
		if !strings.HasSuffix(name, "-proxy.service") {
			continue
		}
		woken++
		if left := units.leftBy(name); len(left) == 0 {
			slept++
		} else if !told[stackOf(name)] {
			t.Errorf("%s has ended, and these are up: %s\n%s", name, strings.Join(left, " "), stacks[stackOf(name)])
		}
	}
	t.Logf("%d services were woken, %d slept", woken, slept)
	if slept < woken/4 {
		t.Error("these stacks show nothing: few of them sleep")
	}
}

func stackOf(unit string) string { name, _, _ := strings.Cut(unit, "-"); return name }

// stack are files by their names.
type stack map[string]string

func (s stack) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, "# %s\n%s\n", name, s[name])
	}
	return b.String()
}

// newStack is a pod, or none, and some containers: in the pod, with a port, without
// one, or not scaled.
func newStack(r *rand.Rand, name string, port int) stack {
	one := func(n int) bool { return r.IntN(n) == 0 }
	s := make(stack)
	files := []string{name + "-a.container", name + "-b.container", name + "-c.container", name + "-d.container", name + "-e.container"}[:2+r.IntN(4)]
	pod := ""
	if one(2) {
		pod = name + "-p.pod"
		files = append(files, pod)
	}
	for i, file := range files {
		text := unitSection(r, file, files)
		published, install := fmt.Sprintf("PublishPort=%d:80\n", port+i), ""
		if one(6) {
			install = "[Install]\nWantedBy=" + pick(r, append(others(file, files), "default.target")...) + "\n"
		}
		if file == pod {
			s[file] = "[Pod]\n" + published + "[ScaleToZero]\n" + install
			continue
		}
		text += "[Container]\nImage=localhost/app\n"
		switch inPod := pod != "" && !one(3); {
		case inPod:
			text += "Pod=" + pod + "\n" + pick(r, "", "", "", "StartWithPod=no\n") + pick(r, "", "", "", "[Service]\nType=oneshot\n", "[Service]\nRestart=always\n")
		case one(2):
			text += published + "[ScaleToZero]\n"
		case one(4):
			text += pick(r, "", "[Service]\nType=oneshot\n")
		default:
			text += pick(r, "", "", "Network="+files[0]+"\n") + "[ScaleToZero]\n"
		}
		s[file] = text + install
	}
	return s
}

// unitSection says how a file needs others.
func unitSection(r *rand.Rand, file string, files []string) string {
	text := "[Unit]\n"
	for range r.IntN(3) {
		word := pick(r, others(file, files)...)
		if r.IntN(3) == 0 {
			word = pick(r, slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == file })...)
		}
		text += pick(r, "Requires=", "Requires=", "Wants=", "BindsTo=", "Upholds=", "PartOf=") + word + "\n"
		if r.IntN(2) == 0 {
			text += "After=" + word + "\n"
		}
	}
	return text
}

// others are the services of the other files.
func others(file string, files []string) (services []string) {
	for _, other := range files {
		if other != file {
			services = append(services, serviceOf(other))
		}
	}
	return services
}

func pick(r *rand.Rand, s ...string) string { return s[r.IntN(len(s))] }

func serviceOf(file string) string {
	kind := strings.TrimPrefix(filepath.Ext(file), ".")
	return strings.TrimSuffix(file, "."+kind) + strings.TrimSuffix("-"+kind, "-container") + ".service"
}

// loadedUnits are units as systemd has them loaded, as far as they start and stop each
// other (systemd.unit(5)).
type loadedUnits map[string]*loadedUnit

type loadedUnit struct {
	starts   []string // and is why they are needed
	upholds  []string // among these
	stopsBy  []string // with which it stops
	unneeded bool     // it stops when nobody needs it
	ends     bool     // by itself
}

// loaded are the units of a generator's, and those of Quadlet's that it leaves alone.
func loaded(t *testing.T, bin, dir string, m quadlet.Manager, plan *generator.Plan) loadedUnits {
	t.Helper()
	out, _, err := dryRun(t.Context(), bin, dir, m, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	units := make(loadedUnits)
	for source, made := range split(out) {
		units.load(serviceOf(source), made.Entries)
	}
	ours := plan.Units(generator.Layout{})
	for _, u := range ours { // in generator.early
		if !strings.Contains(u.Name, "/") {
			delete(units, u.Name)
		}
	}
	for _, u := range ours {
		name, dropin := strings.CutSuffix(filepath.Dir(u.Name), ".d")
		switch {
		case u.Link != "": // [Install]: of what is no service here
		case dropin:
			units.load(name, entries(u))
		default:
			units.load(u.Name, entries(u))
		}
	}
	return units
}

// load reads a file, or a drop-in.
func (l loadedUnits) load(name string, entries []quadlet.Entry) {
	u := l[name]
	if u == nil {
		u = new(loadedUnit)
		l[name] = u
	}
	for _, e := range entries {
		switch e.Section + " " + e.Key {
		case "Unit Upholds":
			u.upholds = append(u.upholds, e.Words()...)
			u.starts = append(u.starts, e.Words()...)
		case "Unit Wants":
			u.starts = append(u.starts, e.Words()...)
		case "Unit Requires", "Unit BindsTo":
			u.starts = append(u.starts, e.Words()...)
			u.stopsBy = append(u.stopsBy, e.Words()...)
		case "Unit PartOf":
			u.stopsBy = append(u.stopsBy, e.Words()...)
		case "Unit StopWhenUnneeded":
			u.unneeded = e.Value == "yes"
		case "Service Type":
			u.ends = e.Value == "oneshot"
		}
	}
}

// leftBy starts a unit, with all that it starts, and stops it. It returns what is still
// up then that stops when it is not needed.
func (l loadedUnits) leftBy(name string) (left []string) {
	up := make(map[string]bool)
	l.start(name, up)
	maps.DeleteFunc(up, func(name string, _ bool) bool { return l[name].ends })
	l.stop(name, up)
	for range 100 { // more than a stack has units
		i := slices.IndexFunc(slices.Sorted(maps.Keys(up)), func(name string) bool { return l[name].unneeded && !l.needed(name, up) })
		if i < 0 {
			break
		}
		l.stop(slices.Sorted(maps.Keys(up))[i], up)
	}
	for _, name := range slices.Sorted(maps.Keys(up)) {
		if l[name].unneeded {
			left = append(left, name)
		}
	}
	return left
}

func (l loadedUnits) start(name string, up map[string]bool) {
	if l[name] == nil || up[name] {
		return
	}
	up[name] = true
	for _, other := range l[name].starts {
		l.start(other, up)
	}
}

// stop also stops what stops with it, but for what others that are up uphold: that is
// started again.
func (l loadedUnits) stop(name string, up map[string]bool) {
	delete(up, name)
	for other := range l {
		if up[other] && slices.Contains(l[other].stopsBy, name) {
			l.stop(other, up)
		}
	}
	for other := range up {
		if slices.Contains(l[other].upholds, name) {
			l.start(name, up)
		}
	}
}

// needed reports whether another unit that is up keeps one from being stopped.
func (l loadedUnits) needed(name string, up map[string]bool) bool {
	for other := range up {
		if other != name && slices.Contains(l[other].starts, name) {
			return true
		}
	}
	return false
}
