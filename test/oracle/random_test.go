package oracle

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
	"github.com/zerolet/zerolet/test/corpus"
)

var (
	seed   = flag.Uint64("seed", 1, "of what is added to the corpus; 0: another one each time")
	rounds = flag.Int("rounds", 1, "how often the corpus gets something else")
)

// keys are what a Quadlet knows in each of its sections, after its own tables.
func (o oracle) keys(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", strings.TrimSuffix(o.command, "/cmd/quadlet"))
	cmd.Dir = "podman-" + o.version
	module, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(module)), "pkg/systemd/quadlet/quadlet.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]string)
	for _, m := range regexp.MustCompile(`\b(Key\w+)\s*=\s*"(\w+)"`).FindAllSubmatch(text, -1) {
		names[string(m[1])] = string(m[2])
	}
	known := make(map[string][]string)
	section := ""
	line := regexp.MustCompile(`^\t+(?:supported(\w+)Keys = map.*|(\w+)Group: \{|(Key\w+):\s+true,)$`)
	for l := range bytes.Lines(text) {
		switch m := line.FindSubmatch(bytes.TrimRight(l, "\n")); {
		case m == nil:
		case len(m[3]) > 0:
			known[section] = append(known[section], names[string(m[3])])
		default:
			section = string(m[1]) + string(m[2])
		}
	}
	if len(known["Container"]) < 50 {
		t.Fatalf("Quadlet %s knows only %q in [Container]", o.version, known["Container"])
	}
	known["Unit"] = strings.Fields("After Requires Wants BindsTo PartOf Description Documentation ConditionPathExists StopWhenUnneeded DefaultDependencies StartLimitBurst")
	known["Service"] = strings.Fields("Restart RestartSec TimeoutStartSec TimeoutStopSec Type KillMode ExecStartPre ExecStopPost ExecReload Environment Slice SuccessExitStatus")
	known["Install"] = strings.Fields("WantedBy RequiredBy UpheldBy Alias Also")
	known["ScaleToZero"] = nil
	for _, k := range scale.Keys() {
		known["ScaleToZero"] = append(known["ScaleToZero"], k.Name)
	}
	return known
}

// values are what a key may have, and what it may not.
var values = strings.Split(`
yes
no
1
-1
65536
10s
infinity
a=b
a=b c="d e"
"a b" 'c'
"unfinished
back\\slash
\
  \
/srv:/srv
/srv/data:/data:ro,Z
data.volume:/data
%t/x.sock:80
%n %% %h
%
$HOME ${X} $$
$(id)
8080:80
127.0.0.1:8081:81/udp
[::1]:8082-8084:82-84
none
host
private
app.network
web.container
web.pod
other.image
basic.build
container:web
keep-id
auto
healthy
journald
type=bind,source=/srv,target=/srv
type=tmpfs
type=volume,source=,target=/x
CAP_NET_ADMIN
all
192.0.2.1
2001:db8::1
web:192.0.2.1
localhost/app
default.target
sockets.target web.service
http:/healthz
native
/bin/true --flag
-/bin/sh -c 'exit 1'
; comment
# no comment
größe=ü
a\x20b
`+strings.Repeat("long", 1000), "\n")

// assignments are a few of the keys, with any values, or such as they are meant
// to have: else nearly every file is refused for one of them.
func assignments(r *rand.Rand, known map[string][]string, sections ...string) string {
	var b strings.Builder
	for _, section := range sections {
		if r.IntN(2) == 0 {
			continue
		}
		fmt.Fprintf(&b, "[%s]\n", section)
		for range 1 + r.IntN(2) {
			if good := meant[section]; len(good) > 0 && r.IntN(4) > 0 {
				fmt.Fprintln(&b, good[r.IntN(len(good))])
				continue
			}
			keys := known[section]
			fmt.Fprintf(&b, "%s=%s\n", keys[r.IntN(len(keys))], values[r.IntN(len(values))])
		}
	}
	return b.String()
}

var meant = map[string][]string{
	"Container": vocabulary,
	"Unit":      {"After=one.service", "Wants=one.service two.service", "Requires=basic.container", "StartLimitBurst=3", "Description=a %n b"},
	"Service":   {"Restart=always", "TimeoutStartSec=3min", "ExecStartPre=/bin/sh -c 'a; b'", "Environment=A=\"b c\" D=e", "Slice=a-b.slice", "KillMode=mixed"},
	"Install":   {"WantedBy=default.target", "RequiredBy=one.service two.service", "Alias=three.service"},
	"ScaleToZero": {
		"IdleTimeout=1min", "StartTimeout=1h", "ReadyCheck=http:/a%%b?c=d", "ReadyCheck=none", "AllowFrom=192.0.2.0/24 2001:db8::/32",
		"MaxConnections=3", "ProxyProtocol=v2", "ClientAddress=proxy", "ConnectionIdleTimeout=1min", "SocketMode=0600", "Listen=%t/a b.sock:80",
		"AutoStart=no", "Mode=native",
	},
}

// TestRandom adds to all files of the corpus what Quadlet knows, with any values:
// nothing crashes or hangs, a second look finds nothing changed, each error has
// a line, and what is taken is what stock Quadlet makes of it.
func TestRandom(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	command := build(t, "zerolet", "../..", "./cmd/zerolet")
	for _, o := range oracles() {
		bin, known := o.build(t), o.keys(t)
		for _, m := range []quadlet.Manager{quadlet.System, quadlet.User} {
			for round := range *rounds {
				s := first + uint64(round)
				t.Run(fmt.Sprintf("%s/%s/seed=%d", o.version, m, s), func(t *testing.T) {
					dir, names := grown(t, known, rand.New(rand.NewPCG(s, 0)), o.own)
					o.compareRandom(t, bin, dir, names, m)
					if o.own { // the command finds the machine's Quadlet by itself, here the embedded one
						commands(t, command, dir, m)
					}
				})
			}
		}
	}
}

// grown is a copy of the corpus with something added to every file, in a drop-in
// if stock Quadlet reads those.
func grown(t *testing.T, known map[string][]string, r *rand.Rand, dropins bool) (dir string, names []string) {
	t.Helper()
	var added []string
	dir, names = corpus.Copy(t, func(i int, _ string) string {
		text := assignments(r, known, "Container", "Unit", "Service", "Install")
		if !dropins {
			added = append(added, text)
			text = ""
		}
		return fmt.Sprintf("[ScaleToZero]\nListen=127.0.0.1:%d:80\n%s", 20000+i, text+assignments(r, known, "ScaleToZero"))
	})
	for i, text := range added {
		path := filepath.Join(dir, names[i])
		old, err := os.ReadFile(path)
		if err == nil {
			if strings.HasSuffix(text, "\\\n") { // stock Quadlet 4.9.5 writes no end of a line that goes on at the file's end
				text += "on\n"
			}
			err = os.WriteFile(path, slices.Concat(old, []byte("\n\n"+text)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !dropins {
		return dir, names
	}
	others, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		kind := strings.TrimPrefix(filepath.Ext(other.Name()), ".")
		if other.IsDir() || kind == "" || kind == "container" || r.IntN(4) > 0 {
			continue
		}
		section := strings.ToUpper(kind[:1]) + kind[1:]
		if len(known[section]) == 0 {
			continue
		}
		path := filepath.Join(dir, other.Name()+".d", "more.conf")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755),
			os.WriteFile(path, []byte(assignments(r, known, section, "Unit")), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, names
}

func (o oracle) compareRandom(t *testing.T, bin, dir string, names []string, m quadlet.Manager) {
	t.Helper()
	delegate := ""
	var theirs map[string]*quadlet.File
	if o.own {
		delegate = bin
		theirs = stock(t, bin, dir, names, m)
	} else {
		theirs = stockEach(t, bin, dir, names, m)
	}
	ours, _ := planned(t, delegate, dir, m)
	first := texts(t, delegate, dir, m)
	for name, u := range unitsOf(t, delegate, dir, m) {
		if !u.Same(first[name]) {
			t.Errorf("%s has changed:\n%s\nwas\n%s", name, u.Text(), first[name])
		}
		whole(t, u)
	}
	equal, refused := 0, 0
	for _, name := range names {
		added, _ := os.ReadFile(filepath.Join(dir, name+".d", "scale.conf"))
		switch e := ours[name]; {
		case e == nil:
			t.Errorf("%s: scaled, but not planned\n%s", name, added)
		case e.Refused():
			refused++
			for _, d := range e.Diagnostics {
				if d.Severity == quadlet.Error && d.Pos.Line == 0 {
					t.Errorf("an error without a line: %v\n%s", d, added)
				}
			}
			if reason := firstError(e); theirs[name] != nil && strings.HasPrefix(reason, "quadlet: ") {
				t.Errorf("%s: refused, and stock Quadlet takes it: %s\n%s", name, reason, added)
			}
		case theirs[name] == nil:
			t.Errorf("%s: stock Quadlet refuses it and zerolet does not\n%s", name, added)
		default:
			if diff := compare(e, theirs[name]); diff != "" && !shuffled(diff) {
				t.Errorf("%s:\n%s\nadded:\n%s", name, diff, added)
			}
			equal++
		}
	}
	t.Logf("%d taken, %d refused", equal, refused)
}

// shuffled reports whether the difference is podman's arguments in another order,
// for which Quadlet's maps are to blame.
func shuffled(diff string) bool {
	theirs, ours, found := strings.Cut(strings.TrimPrefix(diff, "- ExecStart: "), "\n+ ExecStart: ")
	words := func(text string) []string { return slices.Sorted(strings.SplitSeq(strings.Trim(text, "[]\n"), " ")) }
	return found && slices.Equal(words(theirs), words(ours))
}

// whole fails the test if a unit's text is not what it was made of: a value has
// left its line.
func whole(t *testing.T, u generator.Unit) {
	t.Helper()
	file, ds := quadlet.Parse(u.Name, u.Text())
	if len(ds) > 0 {
		t.Errorf("%s: %v\n%s", u.Name, ds, u.Text())
	}
	var written []string
	for _, s := range u.Sections {
		for _, e := range s.Entries {
			written = append(written, s.Section+" "+e.Name+"="+strings.TrimSpace(e.Value))
		}
	}
	for _, e := range file.Entries {
		text := e.Section + " " + e.Key + "=" + e.Value
		i := slices.Index(written, text)
		if i < 0 && e.Key != "SourcePath" {
			t.Errorf("%s reads %q, which was not written", u.Name, text)
		}
	}
}

// commands runs zerolet on the files: it ends in time, and each error has a line.
func commands(t *testing.T, command, dir string, m quadlet.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, verb := range []string{"check", "render"} {
		cmd := exec.CommandContext(ctx, command, verb, "--"+m.String())
		cmd.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if ctx.Err() != nil || err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
			t.Fatalf("zerolet %s: %v\n%s", verb, err, &stderr)
		}
		at := regexp.MustCompile(`^/[^:]+:\d+:\d+: error: `)
		for line := range strings.Lines(stderr.String()) {
			if strings.Contains(line, ": error: ") && !at.MatchString(line) {
				t.Errorf("zerolet %s: an error without a line: %s", verb, line)
			}
		}
	}
}
