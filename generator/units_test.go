package generator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
)

// nasty are files whose values try to become more than values.
func nasty() []string {
	const web = "[Container]\nImage=localhost/web\nPublishPort=8080:80\n[ScaleToZero]\n"
	var files []string
	for _, line := range []string{
		"",
		"[Container]\nEnvironment=A=\"two words\" 'B=it''s' C=50%% D=$HOME E=;x F=a\\\\b",
		"[Container]\nExec=sh -c 'echo \"$1\"; echo %%; exit' \\x41 \\\n  next",
		"[Container]\nLabel=a=b\\nExecStartPre=/bin/false",
		"[Container]\nEnvironment=A=\u2028[Service]\u0085ExecStart=x",
		"[Container]\nVolume=/srv/%h;x:/srv\nContainerName=$NAME",
		"[Unit]\nDescription=100% ; [Service] \"open\n\n[Service]\nExecStartPre=-/bin/sh -c \"exit 1\" ; /bin/true",
		"[Service]\nEnvironment=X=\\",
		"[Service]\n; X=1\nX\\=1",
		"[Odd section]\na=b\n[X-Other]\nc=%d",
		"[Container]\nServiceName=../../etc/x",
		"[Container]\nServiceName=a\\x2db:c",
		"[Container]\nServiceName=" + strings.Repeat("n", 238),
		"[Install]\nWantedBy=../x.target a/b.target \"x y.target\" .. \\x2f\nAlias=../x.service",
		"[Service]\nType=oneshot",
		"[ScaleToZero]\nIdleTimeout=\"1min\"",
		"[ScaleToZero]\nListen=[::]:9000:90\nListen=0.0.0.0:9000:90\nAutoStart=no",
		"[ScaleToZero]\nReadyCheck=http:/%\"\\$;'\nProxyProtocol=v2\nClientAddress=proxy\nMaxConnections=1\nAllowFrom=::/0\nConnectionIdleTimeout=1",
		"[ScaleToZero]\nListen=%t/a\\b;c.sock:/tmp/%%x\\/y.sock\nSocketMode=0600\nSocketGroup=0\nDirectoryMode=07777",
		"[Container]\nImage=\xff\xfe",
		"[Container]\nMount=type=bind,source=,target=/x",
		"[Container]\nPod=x.pod\nNetwork=host",
		"[Container]\nUserNS=auto:size=%i",
	} {
		files = append(files, web+line+"\n")
	}
	return append(files, "[Container]\nImage=localhost/db\n[ScaleToZero]\n[Install]\n"+
		"RequiredBy=web.service ../up.service a/b.service .service x@.service \"y z.service\"\nWantedBy=web.service db.service\n")
}

func FuzzUnits(f *testing.F) {
	for _, text := range nasty() {
		f.Add(text, "web")
	}
	f.Add(nasty()[0], `we\x2db:1`)
	f.Fuzz(func(t *testing.T, text, name string) {
		if name == "" || name == "." || name == ".." || len(name) > 245 || strings.ContainsAny(name, "/\x00") {
			t.Skip("not the name of a file")
		}
		hangs := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("hangs on %q, named %q", text, name)) })
		defer hangs.Stop()
		for _, m := range []quadlet.Manager{quadlet.System, quadlet.User} {
			checkUnits(t, units(m, "/etc/containers/systemd/"+name+".container", text))
		}
	})
}

// TestUnits is the fuzz target's property on the seeds, and sees that they get
// as far as to a unit.
func TestUnits(t *testing.T) {
	scaled := 0
	for _, text := range nasty() {
		us := units(quadlet.User, "/etc/containers/systemd/web.container", text)
		checkUnits(t, us)
		if slices.ContainsFunc(us, func(u Unit) bool { return strings.HasSuffix(u.Name, "-proxy.socket") }) {
			scaled++
		}
	}
	if scaled < 10 {
		t.Errorf("only %d of %d files were scaled", scaled, len(nasty()))
	}
}

// units goes the generator's way with one file and the embedded Quadlet.
func units(m quadlet.Manager, path, text string) []Unit {
	f, ds := quadlet.Parse(path, []byte(text))
	p := NewPlan(quadlet.Search{Manager: m}, []*quadlet.File{f})
	for _, e := range p.Endpoints {
		e.Diagnostics = append(ds, e.Diagnostics...)
	}
	sources, _ := quadlet.Scan(nil)
	p.Convert(context.Background(), convert.Config{Manager: m, Sources: sources})
	return p.Units(Layout{
		Proxy: proxyPath, Zerolet: "/usr/bin/zerolet",
	})
}

// setting is one assignment as a reader sees it.
type setting struct{ section, key, value string }

// newSetting leaves out in what the readers differ: space at the ends of a
// value, and bytes that are not UTF-8 (systemd ignores such a line).
func newSetting(section, key, value string) setting {
	valid := func(s string) string { return string([]rune(s)) }
	return setting{valid(section), valid(key), strings.TrimSpace(valid(value))}
}

// checkUnits sees that every unit read back has exactly the settings that were
// meant, and that every name stays where it belongs.
func checkUnits(t *testing.T, units []Unit) {
	t.Helper()
	names := make(map[string]bool)
	for _, u := range units {
		where := u.Priority.String() + "/" + u.Name
		if names[where] {
			t.Errorf("%q is written twice", where)
		}
		names[where] = true
		if !filepath.IsLocal(u.Name) || filepath.Clean(u.Name) != u.Name || strings.Count(u.Name, "/") > 1 {
			t.Errorf("%q leaves its directory", where)
		}
		if u.Link != "" {
			if u.Link != os.DevNull && filepath.Dir(u.Link) != ".." {
				t.Errorf("%q leads to %q", where, u.Link)
			}
			continue
		}
		meant := intended(u)
		if got := ours(t, u); !reflect.DeepEqual(got, meant) {
			t.Errorf("%q: our reader finds\n%q\nmeant was\n%q", where, got, meant)
		}
		got := theirs(t, u)
		if !reflect.DeepEqual(got, meant) {
			t.Errorf("%q: go-systemd finds\n%q\nmeant was\n%q", where, got, meant)
		}
		checkCommands(t, u.Name, got)
	}
}

const proxyPath = "/usr/libexec/zerolet/zerolet-proxy"

// checkCommands sees that zerolet-proxy takes what its ExecStart= says once
// systemd has read it.
func checkCommands(t *testing.T, unit string, settings []setting) {
	t.Helper()
	for _, s := range settings {
		if s.section != "Service" || s.key != "ExecStart" {
			continue
		}
		// systemd parts the words and then expands each (systemd.service(5),
		// "Command lines"); podman's reader parts them as systemd does.
		words := quadlet.Entry{Section: s.section, Key: s.key, Value: s.value}.Arguments()
		if len(words) == 0 || words[0] != ":"+proxyPath {
			continue
		}
		for i := range words {
			words[i] = expanded(words[i])
		}
		cfg, err := wire.ParseArgs(words[1:])
		if err != nil {
			t.Errorf("%q: the proxy refuses %q: %v", unit, words[1:], err)
		}
		name, _ := wire.Container.Name(cfg.Container)
		if !cfg.Open && unit != wire.Proxy.Of(name) && unit != wire.Entry.Of(name) {
			t.Errorf("%q is about %q", unit, cfg.Container)
		}
	}
}

// expanded has some value for every specifier (systemd.unit(5), "Specifiers"). A
// "%" that begins none stays.
func expanded(word string) string {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '%' || i+1 == len(word) {
			b.WriteByte(word[i])
			continue
		}
		switch i++; {
		case word[i] == '%':
			b.WriteByte('%')
		case strings.IndexByte("CEhLSTtVdyY", word[i]) >= 0: // directories
			b.WriteString("/some/where")
		default:
			b.WriteString("some")
		}
	}
	return b.String()
}

func intended(u Unit) []setting {
	var out []setting
	for _, s := range u.Sections {
		for _, e := range s.Entries {
			out = append(out, newSetting(s.Section, e.Name, e.Value))
		}
	}
	return out
}

func ours(t *testing.T, u Unit) []setting {
	f, ds := quadlet.Parse(u.Name, u.Text())
	if ds.HasErrors() {
		t.Errorf("%q: %v", u.Name, ds)
	}
	var out []setting
	for _, e := range f.Entries {
		out = append(out, newSetting(e.Section, e.Key, e.Value))
	}
	return out
}

func theirs(t *testing.T, u Unit) []setting {
	options, err := unit.DeserializeOptions(bytes.NewReader(u.Text()))
	if errors.Is(err, unit.ErrLineTooLong) { // its limit is 2048 bytes, systemd's 1 MiB
		return intended(u)
	}
	if err != nil {
		t.Errorf("%q: %v", u.Name, err)
	}
	var out []setting
	for _, o := range options {
		out = append(out, newSetting(o.Section, o.Name, o.Value))
	}
	return out
}

// What zerolet writes of itself means the same to systemd as to us, whatever
// is in it. systemd's way of reading a command line is podman's.
func TestWord(t *testing.T) {
	for _, text := range []string{
		"plain", "two words", `it's "so"`, `back\slash`, `\x41`, `end\`, ";", "a;b", "%h", "100%", "$HOME", "tab\there",
		"line\nbreak", "bell\a", "\xff", "é", "'", `"`, "-rf", "@x", "!x", "+x", ":x",
	} {
		line := word(literal(text))
		if strings.ContainsAny(line, "\n\r\x00") || strings.HasSuffix(line, `\`) {
			t.Errorf("%q becomes %q, which does not stay on its line", text, line)
		}
		e := quadlet.Entry{Section: "Service", Key: "ExecStart", Value: ":/bin/x " + line + " next"}
		want := []string{":/bin/x", strings.ReplaceAll(oneLine(text), "%", "%%"), "next"}
		if got := e.Arguments(); !slices.Equal(got, want) {
			t.Errorf("%q is read as %q, want %q", line, got, want)
		}
	}
}

// A line that systemd does not read is told, and not written.
func TestLongLine(t *testing.T) {
	const web = "[Container]\nImage=localhost/web\nPublishPort=8080:80\n[ScaleToZero]\n[Container]\n"
	for size, refused := range map[int]bool{1 << 19: false, 1 << 20: true} {
		f, ds := quadlet.Parse("/web.container", []byte(web+"Environment=A="+strings.Repeat("x", size)+"\n"))
		if len(ds) > 0 {
			t.Fatal(ds)
		}
		p := NewPlan(quadlet.Search{Manager: quadlet.User}, []*quadlet.File{f})
		sources, _ := quadlet.Scan(nil)
		p.Convert(t.Context(), convert.Config{Sources: sources})
		e := p.Endpoints[0]
		if e.Refused() != refused {
			t.Fatalf("%d bytes: %v", size, e.Diagnostics)
		}
		if refused && (e.Diagnostics[0].Pos.Line != 6 || !strings.Contains(e.Diagnostics[0].Message, "systemd takes no more than 1048575")) {
			t.Errorf("%v", e.Diagnostics)
		}
	}
}

// The longest name that is taken can be written, whatever is made of it.
func TestLongName(t *testing.T) {
	for n, refused := range map[int]bool{238: false, 239: true} {
		dir := t.TempDir()
		us := units(quadlet.User, "/etc/containers/systemd/"+strings.Repeat("n", n)+".container",
			"[Container]\nImage=localhost/web\nPublishPort=8080:80\n[ScaleToZero]\nWakeOn=hourly\n")
		if refused != (len(us) == 0) {
			t.Errorf("%d bytes: %d units", n, len(us))
		}
		out := Output{Normal: filepath.Join(dir, "normal"), Early: filepath.Join(dir, "early")}
		if err := out.Write(us); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if strings.HasSuffix(path, ".tmp") {
				err = errors.Join(err, errors.New(path+" is left"))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What stops when zerolet is gone is what the generator wrote, and systemd
// loads: not the administrator's.
func TestRemoval(t *testing.T) {
	for _, test := range []struct {
		manager quadlet.Manager
		file    string
		stops   string
	}{
		{quadlet.System, "web.container", "--system stop -- web.service web-proxy.service web-entry.socket web-entry.service"},
		{quadlet.User, "web.container", "--user stop -- web.service web-proxy.service zerolet-removed.path"},
		{quadlet.User, "zerolet-removed.container", ""},
	} {
		f, _ := quadlet.Parse("/etc/containers/systemd/"+test.file, []byte(nasty()[0]))
		p := NewPlan(quadlet.Search{Manager: test.manager}, []*quadlet.File{f})
		sources, _ := quadlet.Scan(nil)
		p.Convert(t.Context(), convert.Config{Manager: test.manager, Sources: sources})
		p.adminUnit = func(name string) (bool, bool) { return name == "web-proxy.socket", false }
		l := Layout{Proxy: "/usr/libexec/zerolet/zerolet-proxy"}
		var stops string
		if units := p.Removal(l, p.Units(l)); len(units) > 0 {
			checkUnits(t, units)
			_, stops, _ = strings.Cut(units[0].Sections[1].Entries[1].Value, l.Proxy+" ")
		}
		if stops != test.stops {
			t.Errorf("%s of %v: %q, want %q", test.file, test.manager, stops, test.stops)
		}
		taken := func(d quadlet.Diagnostic) bool { return strings.Contains(d.Message, "zerolet's own") }
		if warned := slices.ContainsFunc(p.All(), taken); warned != (test.stops == "") {
			t.Errorf("%s of %v: %v", test.file, test.manager, p.All())
		}
	}
}

// Units may be asked for as often as one likes: what there is to say of a plan
// is said once.
func TestUnitsLeavePlan(t *testing.T) {
	f, _ := quadlet.Parse("/etc/containers/systemd/web.container", []byte("[Container]\nImage=i\nPublishPort=8080:80\n[ScaleToZero]\n"))
	p := NewPlan(quadlet.Search{Manager: quadlet.User}, []*quadlet.File{f})
	p.checkAdmin(func(name string) (exists, masked bool) { return name == "web.service", false })
	first, second := p.Units(Layout{}), p.Units(Layout{})
	if !reflect.DeepEqual(first, second) || len(p.All()) != 1 {
		t.Errorf("%d units, then %d, and %v", len(first), len(second), p.All())
	}
}

// The order of podman's arguments says nothing, that of any other line does.
func TestSame(t *testing.T) {
	u := Unit{Name: "web.service", Sections: []*unit.UnitSection{
		section("Container", "PublishPort", "1:1", "PublishPort", "2:2"),
		section("Service", "ExecStart", "/usr/bin/podman run --shm-size 128m --hostname web i", "ExecStop", "/usr/bin/podman rm -f -i"),
	}}
	for _, test := range []struct {
		old, new string
		same     bool
	}{
		{"", "", true},
		{"--shm-size 128m --hostname web", "--hostname web --shm-size 128m", true},
		{"--shm-size 128m", "--shm-size 256m", false},
		{"--shm-size 128m ", "", false},
		{"128m", "128m 128m", false},
		{"PublishPort=1:1\nPublishPort=2:2", "PublishPort=2:2\nPublishPort=1:1", false},
		{"rm -f -i", "rm -i -f", false},
		{"[Service]", "[X-Service]", false},
		{"ExecStop=", "Exec\x00Stop=", false},
	} {
		if text := strings.Replace(string(u.Text()), test.old, test.new, 1); u.Same([]byte(text)) != test.same {
			t.Errorf("%q for %q: not %v", test.new, test.old, test.same)
		}
	}
	proxy := Unit{Name: "web-proxy.service", Sections: []*unit.UnitSection{section("Service", "ExecStart", "/usr/libexec/zerolet/zerolet-proxy --forward=a --forward=b")}}
	if text := strings.Replace(string(proxy.Text()), "--forward=a --forward=b", "--forward=b --forward=a", 1); proxy.Same([]byte(text)) {
		t.Error("the proxy asks the first port whether the app is ready: their order matters")
	}
}
