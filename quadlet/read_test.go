package quadlet

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containers/podman/v4/pkg/systemd/parser"
)

// dump is a file and its diagnostics as text, for comparison.
func dump(f *File, ds Diagnostics) string {
	var b strings.Builder
	for _, s := range f.Sections {
		fmt.Fprintf(&b, "%d:%d [%s]\n", s.Pos.Line, s.Pos.Col, s.Name)
	}
	for _, e := range f.Entries {
		fmt.Fprintf(&b, "%d:%d %s.%s, %d:%d %q\n", e.Pos.Line, e.Pos.Col, e.Section, e.Key,
			e.ValuePos.Line, e.ValuePos.Col, e.Value)
	}
	for _, d := range ds {
		fmt.Fprintln(&b, d)
	}
	return b.String()
}

// parseTests are also the seeds of FuzzParse.
func parseTests() []struct{ name, text, want string } {
	return []struct{ name, text, want string }{
		{"empty", "", ""},
		{"only comments", "# a\n; b\n\n \t\n", ""},
		{
			"plain", "[Container]\nImage=localhost/a\n",
			"1:1 [Container]\n2:1 Container.Image, 2:7 \"localhost/a\"\n",
		},
		{
			"no final newline", "[Container]\nImage=a",
			"1:1 [Container]\n2:1 Container.Image, 2:7 \"a\"\n",
		},
		{
			"space everywhere", "  [Unit]\t\n \tA b\t = \t x = y \t\n",
			"1:3 [Unit]\n2:3 Unit.A b, 2:12 \"x = y\"\n",
		},
		{
			"empty value", "[Container]\nPublishPort=\nX= \n",
			"1:1 [Container]\n2:1 Container.PublishPort, 2:13 \"\"\n3:1 Container.X, 3:3 \"\"\n",
		},
		{
			"section twice", "[A]\nx=1\n[B]\n[A]\nx=2\n",
			"1:1 [A]\n3:1 [B]\n4:1 [A]\n2:1 A.x, 2:3 \"1\"\n5:1 A.x, 5:3 \"2\"\n",
		},
		{
			"crlf", "[Container]\r\nExec=a \\\r\n  b\r\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a b\"\n",
		},
		{
			"quadlet joins without a space", "[Container]\nExec=a\\\n  b\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"ab\"\n",
		},
		{
			"systemd joins with a space", "[Service]\nExecStart=a\\\n  b\n",
			"1:1 [Service]\n2:1 Service.ExecStart, 2:11 \"a b\"\n",
		},
		{
			"indented first line", "[Container]\n  Exec=a \\\n  b\n",
			"1:1 [Container]\n2:3 Container.Exec, 2:8 \"a b\"\n",
		},
		{
			"space after the backslash", "[Container]\nExec=a \\ \t\nb\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a b\"\n",
		},
		{
			"comments and empty lines inside", "[Container]\nExec=a \\\n# x \\\n\n ; y\nb \\\n c\nX=1\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a b c\"\n8:1 Container.X, 8:3 \"1\"\n",
		},
		{
			"value on the next line", "[Container]\nExec= \\\n   b\n[Service]\nA=\\\n  c\n",
			"1:1 [Container]\n4:1 [Service]\n2:1 Container.Exec, 3:4 \"b\"\n5:1 Service.A, 6:3 \"c\"\n",
		},
		{
			"key over two lines", "[Container]\nEx\\\nec=b\n",
			"1:1 [Container]\n2:1 Container.Exec, 3:4 \"b\"\n",
		},
		{
			"header and key over two lines", "[Service]\n[Con\\\ntai=ner]\nx=1\n[Unit]\nA\\\nf=\\\nb\n",
			"1:1 [Service]\n2:1 [Contai=ner]\n5:1 [Unit]\n4:1 Contai=ner.x, 4:3 \"1\"\n6:1 Unit.Af, 8:1 \"b\"\n",
		},
		{
			"lone backslash starts nothing", "\\\n# c\n[Container]\n\\\nImage=a\n",
			"3:1 [Container]\n5:1 Container.Image, 5:7 \"a\"\n",
		},
		{
			"backslash at the end", "[Container]\nExec=a \\\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a\"\n",
		},
		{
			"nothing follows the backslash", "[Container]\nExec=a \\\n\n# c\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a\"\n" +
				"f:2:1: warning: file ends inside this continued line, Quadlet ignores the assignment\n" +
				"hint: remove the \\ at the end of the line\n",
		},
		{
			"header swallowed", "[Container]\nExec=a \\\n\n[ScaleToZero]\nX=1\n",
			"1:1 [Container]\n2:1 Container.Exec, 2:6 \"a [ScaleToZero]\"\n5:1 Container.X, 5:3 \"1\"\n" +
				"f:4:1: warning: section header is taken as a part of line 2, which is continued\n" +
				"hint: remove the \\ at the end of that line\n",
		},
		{
			"backslash in the value at the end", "[A]\nx=a \\\\",
			"1:1 [A]\n2:1 A.x, 2:3 \"a\"\n" +
				"f:2:1: error: value of x= ends in a backslash\nhint: remove the \\\n",
		},
		{"only a backslash", "\\", ""},
		{
			"byte order mark", "\ufeff[A]\nx=1\n",
			"1:4 [A]\n2:1 A.x, 2:3 \"1\"\n" +
				"f:1:1: error: file starts with a byte order mark, which Quadlet does not read\n" +
				"hint: save the file as UTF-8 without a byte order mark\n",
		},
		{
			"all problems at once", "x=1\ny=2\n[A]\njunk\n=v\n[]\n[a[b]\nz=1\n",
			"3:1 [A]\n8:1 A.z, 8:3 \"1\"\n" +
				"f:1:1: error: assignment before the first section\n" +
				"hint: open a section first, such as [Container]\n" +
				"f:4:1: error: expected KEY=VALUE, [SECTION] or a comment\nhint: a comment starts with #\n" +
				"f:5:1: error: missing key before =\nhint: write KEY=VALUE\n" +
				"f:6:1: error: section without a name\nhint: write [Container], [ScaleToZero] or the like\n" +
				"f:7:1: error: invalid section name \"a[b\"\nhint: write [Container], [ScaleToZero] or the like\n",
		},
		{
			"missing bracket", "[A]\n [Container\nImage=a\n[Service] # c\nB=1\n",
			"1:1 [A]\n2:2 [Container]\n4:1 [Service]\n" +
				"3:1 Container.Image, 3:7 \"a\"\n5:1 Service.B, 5:3 \"1\"\n" +
				"f:2:2: error: invalid section header\nhint: write [Container]\n" +
				"f:4:1: error: invalid section header\nhint: a comment needs a line of its own\n",
		},
		{
			"nul and carriage return", "[A]\nx=a\x00b\ny=a\rz=b\n# \x00 \r c\nv=1\n",
			"1:1 [A]\n5:1 A.v, 5:3 \"1\"\n" +
				"f:2:4: error: NUL byte\nhint: save the file as plain text\n" +
				"f:3:4: error: carriage return inside a line\nhint: end lines with \\n or \\r\\n\n",
		},
		{
			"nul in a continued line", "[A]\nx=a \\\nb\x00 \\\nc\nv=1\n",
			"1:1 [A]\n5:1 A.v, 5:3 \"1\"\nf:3:2: error: NUL byte\nhint: save the file as plain text\n",
		},
		{
			"invalid utf-8", "[A]\nx=\u00e9 \xe9\n",
			"1:1 [A]\n2:1 A.x, 2:3 \"\u00e9 \\xe9\"\n" +
				"f:2:6: warning: not valid UTF-8, systemd ignores such a line\nhint: save the file as UTF-8\n",
		},
	}
}

func TestParse(t *testing.T) {
	for _, tt := range parseTests() {
		t.Run(tt.name, func(t *testing.T) {
			if got := dump(Parse("f", []byte(tt.text))); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestParseTellsSoManyProblemsOnly(t *testing.T) {
	_, ds := Parse("f", []byte(strings.Repeat("junk\n", 1000)))
	if len(ds) != maxProblems+1 {
		t.Fatalf("%d diagnostics, want %d", len(ds), maxProblems+1)
	}
	if got, want := ds[maxProblems].String(), "f:101: error: too many problems in this file\nhint: repair these first"; got != want {
		t.Errorf("last is %q, want %q", got, want)
	}
}

// TestParseIsLinear has inputs on which Podman's way of joining lines, a new
// string for each, would copy a terabyte. Four times the text takes some four
// times the memory; by the square it would be sixteen.
func TestParseIsLinear(t *testing.T) {
	const small, large, most = 32 << 10, 128 << 10, 6
	fill := func(s string, size int) string { return strings.Repeat(s, size/len(s)) }
	for name, text := range map[string]func(size int) string{
		"continued":    func(n int) string { return "[Container]\nExec=" + fill("a\\\n", n) + "\n" },
		"comments":     func(n int) string { return "[Container]\nExec=\\\n" + fill("#\n", n) + "\n" },
		"backslashes":  func(n int) string { return "[Container]\n" + fill("\\\n", n) + "\n" },
		"assignments":  func(n int) string { return "[Container]\n" + fill("a=b\n", n) },
		"sections":     func(n int) string { return fill("[a]\n", n) },
		"one value":    func(n int) string { return "[Container]\nExec=" + fill("x", n) },
		"not utf-8":    func(n int) string { return "[Container]\n" + fill("a=\xff\n", n) },
		"equals signs": func(n int) string { return "[Container]\n" + fill("=", n) },
	} {
		t.Run(name, func(t *testing.T) {
			once, often := parseMemory(text(small)), parseMemory(text(large))
			if often > most*once {
				t.Errorf("%d bytes take %d, %d take %d", small, once, large, often)
			}
		})
	}
}

// parseMemory is how many bytes are asked for while a text is read and written.
func parseMemory(text string) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, _ := Parse("f", []byte(text))
	f.Text()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(path("good"), []byte("[A]\nx=1\n"), 0o600))
	must(os.WriteFile(path("empty"), nil, 0o600))
	must(os.WriteFile(path("full"), bytes.Repeat([]byte("#"), maxFile), 0o600))
	must(os.WriteFile(path("large"), bytes.Repeat([]byte("#"), maxFile+1), 0o600))
	must(os.Symlink("good", path("link")))
	must(os.Symlink("loop", path("loop")))
	must(os.Symlink("/dev/null", path("null")))
	must(os.Symlink("/dev/zero", path("zero")))
	must(os.Mkdir(path("dir"), 0o700))
	must(syscall.Mkfifo(path("fifo"), 0o600))

	for name, want := range map[string]string{
		"good":    "1:1 [A]\n2:1 A.x, 2:3 \"1\"\n",
		"link":    "1:1 [A]\n2:1 A.x, 2:3 \"1\"\n",
		"empty":   "",
		"full":    "",
		"null":    "",
		"large":   "error: cannot read: it is larger than 4 MiB\n",
		"zero":    "error: cannot read: it is not a regular file\n",
		"fifo":    "error: cannot read: it is not a regular file\n",
		"dir":     "error: cannot read: it is a directory\n",
		"loop":    "error: cannot read: too many levels of symbolic links\n",
		"missing": "error: cannot read: no such file or directory\n",
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan string, 1)
			go func() { done <- dump(ReadFile(path(name))) }()
			select {
			case got := <-done:
				if got = strings.TrimPrefix(got, path(name)+": "); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			case <-time.After(time.Minute):
				t.Error("hangs")
			}
		})
	}
}

func TestReadFileUnreadable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root reads every file")
	}
	path := filepath.Join(t.TempDir(), "a.container")
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	if got, want := dump(ReadFile(path)), path+": error: cannot read: permission denied\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// corpus is the directory of Quadlet files that Podman tests itself with.
func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ZEROLET_CORPUS")
	if dir == "" {
		wd, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for dir = ""; dir == "" && wd != "/"; wd = filepath.Dir(wd) {
			if c := filepath.Join(wd, "shared/corpus"); exists(c) {
				dir = c
			}
		}
	}
	if dir == "" {
		t.Skip("no corpus: ZEROLET_CORPUS is not set and no directory above has shared/corpus")
	}
	return filepath.Join(dir, "quadlet")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func corpusFiles(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(corpus(t), "*"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in the corpus: %v", err)
	}
	return paths
}

func TestCorpusParses(t *testing.T) {
	for _, path := range corpusFiles(t) {
		if _, ds := ReadFile(path); ds.HasErrors() {
			t.Errorf("%v", ds)
		}
	}
}

// TestPodman4ReadsText gives the canonical text to Podman 4.9.5's parser,
// which must end and must read what we read.
func TestPodman4ReadsText(t *testing.T) {
	check := func(t *testing.T, path string, data []byte) {
		f, _ := Parse(path, data)
		text := f.Text()
		theirs := parser.NewUnitFile()
		done := make(chan error, 1)
		go func() { done <- theirs.Parse(string(text)) }()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v in:\n%s", err, text)
			}
		case <-time.After(time.Minute):
			t.Fatalf("hangs on:\n%s", text)
		}
		for _, e := range f.Entries {
			ours := []string{}
			for _, a := range f.All(e.Section, e.Key) {
				ours = append(ours, a.Value)
			}
			if got := theirs.LookupAll(e.Section, e.Key); !slices.Equal(got, ours) {
				t.Errorf("%s.%s is %q, in Podman %q", e.Section, e.Key, ours, got)
			}
		}
		for _, group := range theirs.ListGroups() {
			if !f.Has(group) && group != "" {
				t.Errorf("Podman sees a section [%s]", group)
			}
			for _, key := range theirs.ListKeys(group) {
				if _, ok := f.Last(group, key); !ok {
					t.Errorf("Podman sees %s.%s", group, key)
				}
			}
		}
	}
	for _, tt := range parseTests() {
		t.Run(tt.name, func(t *testing.T) { check(t, "f", []byte(tt.text)) })
	}
	t.Run("corpus", func(t *testing.T) {
		for _, path := range corpusFiles(t) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			check(t, path, data)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, tt := range parseTests() {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, ds := Parse("f", data)
		lines := strings.Split(string(data), "\n")
		for _, d := range ds {
			if d.Pos.Line > len(lines) || d.Pos.Line > 0 && d.Pos.Col > len(lines[d.Pos.Line-1])+1 {
				t.Errorf("outside of the file: %v", d)
			}
		}
		for _, s := range file.Sections {
			if rest := at(t, lines, s.Pos); rest[0] != '[' {
				t.Errorf("section %q is not at %v but %q", s.Name, s.Pos, rest)
			}
		}
		for _, e := range file.Entries {
			checkEntry(t, lines, e)
		}
		checkRoundTrip(t, file)
	})
}

// at is the rest of the line from a position on.
func at(t *testing.T, lines []string, pos Pos) string {
	t.Helper()
	if pos.Line < 1 || pos.Line > len(lines) || pos.Col < 1 || pos.Col > len(lines[pos.Line-1])+1 {
		t.Fatalf("%v is outside of the file", pos)
	}
	return lines[pos.Line-1][pos.Col-1:]
}

// checkEntry proves the positions of an entry: its key and each byte of its
// value stand where it says.
func checkEntry(t *testing.T, lines []string, e Entry) {
	t.Helper()
	rest := at(t, lines, e.Pos)
	if !strings.HasPrefix(rest, e.Key) {
		first := strings.TrimSuffix(strings.TrimSpace(rest), `\`)
		if e.lines == nil || !strings.HasPrefix(e.Key, first) {
			t.Errorf("key %q is not at %v but %q", e.Key, e.Pos, rest)
		}
	}
	if e.At(0) != e.ValuePos {
		t.Errorf("value of %s is at %v and at %v", e.Key, e.ValuePos, e.At(0))
	}
	if strings.ContainsAny(e.Value, "\n\r\x00") || strings.HasSuffix(e.Value, `\`) || e.Value != strings.TrimSpace(e.Value) {
		t.Errorf("value %q", e.Value)
	}
	at(t, lines, e.ValuePos)
	for i := range min(len(e.Value), 1000) {
		rest := at(t, lines, e.At(i))
		joined := e.lines != nil && e.Value[i] == ' ' && strings.HasPrefix(rest, `\`)
		if !joined && (rest == "" || rest[0] != e.Value[i]) {
			t.Errorf("byte %d of %q is not at %v but %q", i, e.Value, e.At(i), rest)
		}
	}
}

// checkRoundTrip proves that the canonical text says the same as the file.
func checkRoundTrip(t *testing.T, f *File) {
	t.Helper()
	text := f.Text()
	again, ds := Parse("text", text)
	if ds.HasErrors() {
		t.Errorf("%v in:\n%s", ds, text)
	}
	if got := again.Text(); !bytes.Equal(got, text) {
		t.Errorf("text %q becomes %q", text, got)
	}
	bySection := func(f *File) map[string][]string {
		m := make(map[string][]string)
		for _, e := range f.Entries {
			m[e.Section] = append(m[e.Section], e.Key+"="+e.Value)
		}
		return m
	}
	ours, theirs := bySection(f), bySection(again)
	if len(ours) != len(theirs) {
		t.Errorf("%d sections with entries become %d", len(ours), len(theirs))
	}
	for section, entries := range ours {
		if !slices.Equal(entries, theirs[section]) {
			t.Errorf("[%s] %q becomes %q", section, entries, theirs[section])
		}
	}
}

func BenchmarkParse(b *testing.B) {
	data := []byte("# a file like those people write\n[Unit]\nDescription=web\nAfter=a.service\n\n[Container]\n" +
		"Image=localhost/web:latest\nPublishPort=8080:80\nVolume=data.volume:/data\nEnvironment=A=b \\\n  C=d\n\n" +
		"[ScaleToZero]\nIdleTimeout=30s\n\n[Install]\nWantedBy=default.target\n")
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		Parse("f", data)
	}
}

func TestTextKeepsEntriesOfUnopenedSections(t *testing.T) {
	f := &File{Entries: []Entry{{Section: "B", Key: "x", Value: "1"}, {Section: "A", Key: "y"}}}
	if got, want := string(f.Text()), "[B]\nx=1\n[A]\ny=\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
