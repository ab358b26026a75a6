// Package oracle compares the container units that zerolet makes with those
// that stock Quadlet makes of the same files. Each stock Quadlet is built from
// its own module: podman 5.4 and 5.8 cannot be in one.
package oracle

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
	"github.com/zerolet/zerolet/test/corpus"
)

var update = flag.Bool("update", false, "write docs/compatibility.md anew")

// oracle is one stock Quadlet. own tells that zerolet delegates to it; with
// the other, zerolet converts with the same code linked in.
type oracle struct {
	version string
	command string
	own     bool
}

func oracles() []oracle {
	return []oracle{
		{"4.9.5", "github.com/containers/podman/v4/cmd/quadlet", false},
		{"5.4.2", "github.com/containers/podman/v5/cmd/quadlet", true},
		{"5.8.2", "github.com/containers/podman/v5/cmd/quadlet", true},
		{"6.0.0", "go.podman.io/podman/v6/cmd/quadlet", true},
	}
}

func (o oracle) build(t *testing.T) string {
	t.Helper()
	return build(t, "quadlet-"+o.version, "podman-"+o.version, o.command)
}

// programs is where what was built lies, on disk. It is set by TestMain.
var programs string

// build is a program of a module in a directory, built by the first who asks.
func build(t *testing.T, name, dir, command string) string {
	t.Helper()
	bin := filepath.Join(programs, name)
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	cmd := exec.Command("go", "build", "-o", bin, command)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+programs)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// TestMain has the links that the generator makes for Quadlet lie in memory, as on a machine that boots: each is a new
// file, for which ext4 looks at all that were deleted in the last minutes (recently_deleted() in fs/ext4/ialloc.c).
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "zerolet-oracle-")
	if err != nil {
		panic(err)
	}
	programs = dir
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err == nil {
		os.Setenv("TMPDIR", memory)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// stock runs a stock Quadlet over the directory: its units by source file.
// Where it crashes, those that are missing are converted one by one.
func stock(t *testing.T, bin, dir string, names []string, m quadlet.Manager) map[string]*quadlet.File {
	t.Helper()
	out, crashed, err := dryRun(t.Context(), bin, dir, m, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	units := split(out)
	if crashed {
		missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return units[name] != nil })
		t.Logf("stock Quadlet crashes before it comes to %d files", len(missing))
		maps.Copy(units, stockEach(t, bin, dir, missing, m))
	}
	return units
}

// split is what -dryrun prints as units by the name of their source.
func split(out []byte) map[string]*quadlet.File {
	units := make(map[string]*quadlet.File)
	for _, text := range bytes.Split(append([]byte("\n"), out...), []byte("\n---")) {
		name, body, ok := bytes.Cut(text, []byte("---\n"))
		if !ok {
			continue
		}
		unit, _ := quadlet.Parse(string(name), body)
		if source, ok := unit.Last("Unit", "SourcePath"); ok {
			units[filepath.Base(source.Value)] = unit
		}
	}
	return units
}

// dryRun is what a Quadlet prints, and whether it crashed; an error means that it did not end in time.
// Its exit status is 1 where any file is bad.
func dryRun(ctx context.Context, bin, dir string, m quadlet.Manager, limit time.Duration) (out []byte, crashed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := []string{"-dryrun"}
	if m == quadlet.User {
		args = append(args, "-user")
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir)
	out, _ = cmd.Output()
	return out, cmd.ProcessState.ExitCode() == 2, ctx.Err() // a panic of the Go runtime
}

// stockEach is stock for a Quadlet that hangs on some files (4.9.5) or crashes on
// others (up to 5.4): each .container by itself, beside the files that are none, or each
// .pod and its container, beside those that are neither. Where it hangs it gets our
// canonical text of the file instead.
func stockEach(t *testing.T, bin, dir string, names []string, m quadlet.Manager) map[string]*quadlet.File {
	t.Helper()
	beside, aside := t.TempDir(), t.TempDir()
	if err := os.CopyFS(beside, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	move := func(from, to string, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	alone := names
	if slices.ContainsFunc(names, isPod) { // a container may make it crash, too
		alone = fileNames(t, beside, ".container", ".pod")
	}
	move(beside, aside, alone...)
	units := make(map[string]*quadlet.File)
	for _, name := range names {
		these := []string{name}
		if isPod(name) {
			these = append(these, corpus.Member(name))
		}
		move(aside, beside, these...)
		out, _, err := dryRun(t.Context(), bin, beside, m, 2*time.Second)
		if err != nil {
			t.Logf("%s: stock Quadlet hangs on it", name)
			path := filepath.Join(beside, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, _ := quadlet.Parse(path, data)
			if err := os.WriteFile(path, f.Text(), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, _, err = dryRun(t.Context(), bin, beside, m, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		made := split(bytes.ReplaceAll(out, []byte(beside), []byte(dir)))
		for _, name := range these {
			units[name] = made[name]
		}
		move(beside, aside, these...)
	}
	return units
}

func isPod(name string) bool { return filepath.Ext(name) == ".pod" }

// fileNames are the names of the files with one of the extensions.
func fileNames(t *testing.T, dir string, extensions ...string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if slices.Contains(extensions, filepath.Ext(f.Name())) {
			names = append(names, f.Name())
		}
	}
	return names
}

func planOf(t *testing.T, bin, dir string, m quadlet.Manager) *generator.Plan {
	t.Helper()
	return generatorOf(bin, dir, m).Plan(t.Context())
}

func generatorOf(bin, dir string, m quadlet.Manager) generator.Generator {
	return generator.Generator{
		Quadlet: bin,
		Search: quadlet.Search{Manager: m, Getenv: func(name string) string {
			return map[string]string{"QUADLET_UNIT_DIRS": dir}[name]
		}},
	}
}

func planned(t *testing.T, bin, dir string, m quadlet.Manager) (map[string]*generator.Endpoint, map[string]generator.Unit) {
	t.Helper()
	plan := planOf(t, bin, dir, m)
	for _, d := range plan.Diagnostics {
		t.Logf("%v", d)
	}
	endpoints := make(map[string]*generator.Endpoint)
	for _, e := range plan.Endpoints {
		endpoints[e.Spec.File.Name()] = e
	}
	units := make(map[string]generator.Unit)
	for _, u := range plan.Units(generator.Layout{}) {
		units[u.Name] = u
	}
	return endpoints, units
}

// entries are those of a unit.
func entries(u generator.Unit) []quadlet.Entry {
	file, _ := quadlet.Parse(u.Name, u.Text())
	return file.Entries
}

// row is a line of docs/compatibility.md.
type row struct {
	kind, version, converter, manager string

	equal, refused, different int
}

func TestCorpus(t *testing.T) {
	var rows []row
	for _, kind := range kinds() {
		for _, o := range oracles() {
			bin := o.build(t)
			for _, m := range []quadlet.Manager{quadlet.System, quadlet.User} {
				t.Run(fmt.Sprintf("%s/%s/%s", kind.name, o.version, m), func(t *testing.T) {
					rows = append(rows, compareAll(t, kind, o, bin, m))
				})
			}
		}
	}
	record(t, rows)
}

// kind is one of those of files that are scaled.
type kind struct {
	name   string
	corpus func(testing.TB, func(i int, text string) string) (dir string, names []string)
}

func kinds() []kind { return []kind{{"container", corpus.Copy}, {"pod", corpus.Pods}} }

func compareAll(t *testing.T, k kind, o oracle, bin string, m quadlet.Manager) row {
	dir, names := k.corpus(t, func(i int, _ string) string {
		return fmt.Sprintf("[ScaleToZero]\nListen=127.0.0.1:%d:80\n", 20000+i)
	})
	r := row{kind: k.name, version: o.version, converter: "embedded", manager: m.String()}
	delegate := ""
	if o.own {
		r.converter, delegate = "the machine's own", bin
	}
	var theirs map[string]*quadlet.File
	switch {
	case o.own:
		theirs = stock(t, bin, dir, names, m)
	case k.name == "container": // it knows no pods
		theirs = stockEach(t, bin, dir, names, m)
	}
	ours, units := planned(t, delegate, dir, m)
	for _, name := range names {
		e := ours[name]
		switch {
		case e == nil:
			t.Errorf("%s: scaled, but not planned", name)
			r.different++
		case e.Refused():
			r.refused++
			reason := firstError(e)
			t.Logf("refused: %s", reason)
			if theirs[name] != nil && strings.HasPrefix(reason, "quadlet: ") {
				t.Errorf("%s: refused, and stock Quadlet takes it: %s", name, reason)
			}
		case theirs[name] == nil:
			t.Errorf("%s: stock Quadlet refuses it and zerolet does not", name)
			r.different++
		default:
			diff := compare(e, theirs[name])
			if k.name == "pod" {
				member := corpus.Member(name)
				diff += differences(entries(units[strings.TrimSuffix(member, ".container")+".service"]), theirs[member].Entries, e)
			}
			if diff != "" {
				t.Errorf("%s:\n%s", name, diff)
				r.different++
				continue
			}
			r.equal++
		}
	}
	return r
}

func firstError(e *generator.Endpoint) string {
	i := slices.IndexFunc(e.Diagnostics, func(d quadlet.Diagnostic) bool { return d.Severity == quadlet.Error })
	return e.Diagnostics[i].Message
}

// compare tells where our unit differs from stock's but for what the design
// changes (docs/internals/how-it-works.md names it).
func compare(e *generator.Endpoint, stock *quadlet.File) string {
	return differences(e.ServiceUnit(), stock.Entries, e)
}

func differences(our, stock []quadlet.Entry, e *generator.Endpoint) string {
	ours, theirs := settings(e, our), settings(e, stock)
	for _, member := range e.MemberServices() { // they start with the pod, if not by it
		theirs = slices.DeleteFunc(theirs, func(s string) bool { return s == "[Unit] Wants="+member || s == "[Unit] Before="+member })
	}
	ours = slices.DeleteFunc(ours, func(s string) bool {
		socket := e.Spec.Unit + "-proxy.socket"
		return s == "[Service] TimeoutStartSec="+e.Spec.StartTimeout.String() && !slices.Contains(theirs, s) ||
			e.Spec.Native && slices.Contains([]string{"[Service] Sockets=" + socket, "[Unit] Requires=" + socket, "[Unit] After=" + socket}, s)
	})
	if name, known := e.Spec.File.ContainerName(); known { // others may have joined its network, and go with it
		ours = slices.DeleteFunc(ours, func(s string) bool {
			return s == "[Service] ExecStopPost=-:podman rm -v -f -i --depend "+name
		})
	}
	if owner, _ := e.Owner(); owner != nil { // in whose network it is; Quadlet says Requires= and After=
		service := owner.Unit() + ".service"
		ours = slices.DeleteFunc(ours, func(s string) bool { return s == "[Unit] BindsTo="+service || s == "[Unit] After="+service })
		theirs = slices.DeleteFunc(theirs, func(s string) bool { return s == "[Unit] After="+service })
	}
	var b strings.Builder
	for _, s := range missing(theirs, ours) {
		fmt.Fprintf(&b, "- %s\n", s)
	}
	for _, s := range missing(ours, theirs) {
		fmt.Fprintf(&b, "+ %s\n", s)
	}
	return b.String()
}

func missing(from, in []string) []string {
	var out []string
	left := slices.Clone(in)
	for _, s := range from {
		if i := slices.Index(left, s); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		out = append(out, s)
	}
	return out
}

// settings are the entries that both sides must share, as text.
func settings(of *generator.Endpoint, entries []quadlet.Entry) []string {
	var out []string
	for _, e := range entries {
		if text, shared := setting(of, e); shared {
			out = append(out, text)
		}
	}
	return out
}

func setting(of *generator.Endpoint, e quadlet.Entry) (text string, shared bool) {
	if e.Section == "Install" || strings.HasPrefix(e.Section, "X-") || e.Section == "ScaleToZero" || e.Section == "Quadlet" {
		return "", false // [Install] is the socket's; systemd reads no X- section
	}
	switch e.Section + " " + e.Key + "=" + e.Value {
	case "Unit Documentation=man:zerolet.container(5)", "Unit Documentation=man:podman-pod(1)",
		"Unit StopWhenUnneeded=yes", "Unit StartLimitIntervalSec=0",
		"Service SuccessExitStatus=143", "Service Restart=no", "Service RemainAfterExit=yes",
		"Unit Wants=network-online.target", "Unit After=network-online.target",
		"Unit Wants=podman-user-wait-network-online.service", "Unit After=podman-user-wait-network-online.service":
		return "", false
	}
	if e.Section == "Unit" && e.Value == "" && slices.Contains([]string{"Wants", "Requires", "BindsTo", "Upholds"}, e.Key) {
		return "", false // no dependency, and it takes none back (systemd.unit(5))
	}
	if e.Key == "ExecStopPost" && (strings.HasPrefix(strings.Replace(e.Value, `"`, "", 1), "-rm -f %t/") || strings.Contains(e.Value, " keep --")) { // what Podman is to keep
		return "", false
	}
	if e.Key == "Wants" && strings.HasSuffix(e.Value, "-healthy.service") { // who asks for its health
		return "", false
	}
	if e.Key == "ExecStartPre" && strings.Contains(e.Value, " place --") { // when it may start
		return "", false
	}
	if e.Key == "ExecStart" || e.Key == "ExecStartPre" {
		words := arguments(of, e)
		if slices.Contains(words, "create") { // a pod's options alone, some in random order
			slices.Sort(words)
		}
		return fmt.Sprintf("%s: %q", e.Key, words), true
	}
	return fmt.Sprintf("[%s] %s=%s", e.Section, e.Key, e.Value), true
}

// arguments are the words of podman's command line without the scaled port,
// without what the proxy needs, and without the start-up check of a file that has
// a check and Notify=healthy, and says nothing of its start.
func arguments(of *generator.Endpoint, e quadlet.Entry) []string {
	notify, _ := of.Spec.File.Last("Container", "Notify")
	_, own := of.Spec.File.Last("Container", "HealthStartupCmd")
	checked := notify.Value == "healthy" && !own
	var out []string
	words := e.Arguments()
	for i := 0; i < len(words); i++ {
		switch word := spelled(of, words[i]); {
		case words[i] == "--publish" && i+1 < len(words):
			i++
			if ports, err := scale.ParsePublish(words[i]); err == nil && ports[0].ContainerPort == 80 {
				continue
			}
			out = append(out, "--publish", words[i])
		case strings.HasPrefix(words[i], "--pidfile=%t/"), words[i] == "--exit-policy=continue":
		case checked && slices.Contains([]string{"--health-startup-cmd", "--health-startup-interval", "--health-startup-timeout"}, words[i]):
			i++
		default:
			out = append(out, word)
		}
	}
	return out
}

// spelled is a word as zerolet has Quadlet 4.9.5 spell it, which later ones do by
// themselves: it knows no Network=NAME.container, and calls the container of an
// instance by a name that Podman refuses.
func spelled(of *generator.Endpoint, word string) string {
	owner, _ := of.Owner()
	switch {
	case owner != nil && word == "--network="+owner.Name():
		name, _ := owner.ContainerName()
		return "--network=container:" + name
	case of.Spec.File.Template() != "" && word == "--name=systemd-%N":
		return "--name=systemd-%p_%i"
	}
	return word
}

// Quadlet searches below every directory that it is given, so that it would
// see other users' files, and drops a directory in which one file does not
// parse. Neither touches a scaled container.
func TestNeighbours(t *testing.T) {
	for _, o := range oracles()[1:] {
		t.Run(o.version, func(t *testing.T) {
			root, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(root, "etc/containers/systemd")
			for path, text := range map[string]string{
				"web.container":                         "[Container]\nImage=localhost/web\nPublishPort=8080:80\nEnvironmentFile=../web.env\nEnvironmentFile=here.env\n[ScaleToZero]\n",
				"web.container.d/zzz.conf":              "[Container]\nHostName=mine\nPublishPort=7070:70\n[ScaleToZero]\nListen=8080:80\n",
				"junk.container":                        "this is no assignment\n",
				"data.volume":                           "[Volume]\nUser=1\n",
				"users/1000/web.container.d/other.conf": "[Container]\nHostName=theirs\n",
				"users/1000/junk.container":             "nor this\n",
			} {
				path = filepath.Join(dir, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			// Stock Quadlet would wait for a writer.
			for _, pipe := range []string{"pipe.volume", "data.volume.d/pipe.conf"} {
				path := filepath.Join(dir, pipe)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), syscall.Mkfifo(path, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			plan := generator.Generator{
				Quadlet: o.build(t),
				Search:  quadlet.Search{Root: root, Getenv: func(string) string { return "" }},
			}.Plan(t.Context())
			if len(plan.Endpoints) != 1 || plan.Endpoints[0].Refused() || len(plan.All()) > 0 {
				t.Fatalf("web.container was not planned as it should be: %v", plan.All())
			}
			var line string
			for _, e := range plan.Endpoints[0].ServiceUnit() {
				if e.Key == "ExecStart" {
					line = e.Value
				}
				if e.Key == "SourcePath" && e.Value != filepath.Join(dir, "web.container") {
					t.Errorf("SourcePath=%s", e.Value)
				}
			}
			for _, want := range []string{
				" --hostname mine ", " --publish 7070:70",
				" --env-file " + filepath.Join(dir, "here.env") + " ", " --env-file " + filepath.Join(root, "etc/containers/web.env") + " ",
			} {
				if !strings.Contains(strings.ReplaceAll(line, "=mine", " mine"), want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			if strings.Contains(line, "8080") || strings.Contains(line, "theirs") {
				t.Errorf("podman publishes the scaled port, or another user's drop-in is used: %s", line)
			}
		})
	}
}

// What every Quadlet refuses is told at the line that it is about, and does not
// take the other files with it.
func TestRefused(t *testing.T) {
	for _, o := range oracles() {
		t.Run(o.version, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{
				"key.container":   "Frobnicate=yes\n[ScaleToZero]\nListen=8001:80\n",
				"mode.container":  "[Service]\nKillMode=process\n[ScaleToZero]\nListen=8002:80\n",
				"image.container": "Image=nowhere.image\n[ScaleToZero]\nListen=8003:80\n",
				"fine.container":  "[ScaleToZero]\nListen=8004:80\n",
			} {
				text = "[Container]\nImage=localhost/app\n" + text
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			bin, image := "", ":1:1: error: quadlet: requested Quadlet image  was not found" // 4.9.5 does not say which
			if o.own {
				bin, image = o.build(t), ":3:1: error: quadlet: requested Quadlet image nowhere.image was not found"
			}
			endpoints, _ := planned(t, bin, dir, quadlet.System)
			for name, want := range map[string]string{
				"key.container":   ":3:1: error: quadlet: unsupported key 'Frobnicate' in group 'Container'",
				"mode.container":  ":4:1: error: quadlet: invalid KillMode 'process'",
				"image.container": image,
				"fine.container":  "",
			} {
				var got string
				if ds := endpoints[name].Diagnostics; len(ds) == 1 {
					got, _, _ = strings.Cut(strings.TrimPrefix(ds[0].String(), filepath.Join(dir, name)), "\n")
				}
				if got != want {
					t.Errorf("%s: %v, want %q", name, endpoints[name].Diagnostics, want)
				}
			}
		})
	}
}

// record writes the table into the document, or tells that it is out of date.
func record(t *testing.T, rows []row) {
	if len(rows) != 2*len(kinds())*len(oracles()) || t.Skipped() {
		return // no corpus
	}
	table := "| files | Podman | converter | manager | equal | refused with a reason | different |\n|---|---|---|---|---|---|---|\n"
	for _, r := range rows {
		table += fmt.Sprintf("| .%s | %s | %s | %s | %d | %d | %d |\n", r.kind, r.version, r.converter, r.manager, r.equal, r.refused, r.different)
	}
	document(t, "table", table)
}

// document puts a table in its place in the document, or tells that it is not
// there.
func document(t *testing.T, name, table string) {
	t.Helper()
	const path, end = "../../docs/compatibility.md", "<!-- end -->\n"
	start := "<!-- " + name + ": go test ./oracle -update -->\n"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(have), start)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the %s", path, name)
	}
	want := before + start + table + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(have) != want {
		t.Errorf("%s is out of date; it should be\n%s", path, want)
	}
}
