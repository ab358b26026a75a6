package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRender holds the whole way from files to units together: every directory
// of testdata is a set of Quadlet files, and NAME.MANAGER is what render says
// of it, without a Quadlet on the machine.
func TestRender(t *testing.T) {
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		dir := filepath.Join("testdata", entry.Name())
		for _, manager := range []string{"system", "user"} {
			t.Run(entry.Name()+"/"+manager, func(t *testing.T) {
				golden(t, dir+"."+manager, rendered(t, dir, manager))
			})
		}
	}
}

func rendered(t *testing.T, dir, manager string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{
		getenv: func(name string) string {
			return map[string]string{"QUADLET_UNIT_DIRS": abs, "XDG_CONFIG_HOME": filepath.Join(abs, "config")}[name]
		},
		uid:          1000,
		unprivileged: 1024, // the kernel's default
		prefix:       "/usr",
	}
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), []string{"render", "--" + manager}, m, &stdout, &stderr)
	text := fmt.Sprintf("exit status %d\n%s\n%s", status, stderr.String(), stdout.String())
	return strings.ReplaceAll(text, abs, "/DIR")
}

// Whatever can be set right says how.
func TestHints(t *testing.T) {
	dirs, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, dir := range dirs {
		if !dir.IsDir() {
			continue
		}
		for _, d := range checked(t, filepath.Join("testdata", dir.Name())).Diagnostics {
			if d.Severity == "error" {
				count++
				if d.Hint == "" || strings.HasSuffix(d.Hint, ".") {
					t.Errorf("%s:%d: %q has the hint %q", d.File, d.Line, d.Message, d.Hint)
				}
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d errors in testdata", count)
	}
}

// checked is what check --json prints, read strictly.
func checked(t *testing.T, dir string) report {
	t.Helper()
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{clock: time.Now, uid: 1000, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": abs}[name]
	}}
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"check", "--json"}, m, &stdout, &stderr)
	if stderr.Len() > 0 {
		t.Errorf("%s: --json prints to standard error: %s", dir, &stderr)
	}
	var r report
	decoder := json.NewDecoder(&stdout)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || r.Version != 1 || decoder.More() {
		t.Fatalf("%s: %v, version %d", dir, err, r.Version)
	}
	return r
}

// docs/diagnostics.md and the README show what check says of one file, plain and
// as JSON, and the former names every field.
func TestDiagnosticsDocument(t *testing.T) {
	const path = "../../docs/diagnostics.md"
	doc := read(t, path)
	file := block(t, doc, "ini")
	plain, object := refused(t, file)
	doc = strings.Replace(doc, "```json\n"+block(t, doc, "json"), "```json\n"+object, 1)
	golden(t, path, strings.Replace(doc, "```text\n"+block(t, doc, "text"), "```text\n"+plain, 1))
	for _, shape := range []any{report{}, reportDiagnostic{}, reportEndpoint{}} {
		for i := range reflect.TypeOf(shape).NumField() {
			name, _, _ := strings.Cut(reflect.TypeOf(shape).Field(i).Tag.Get("json"), ",")
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("the document does not describe %s", name)
			}
		}
	}

	readme := read(t, "../../README.md")
	if !strings.Contains(readme, "```ini\n"+file+"```") {
		t.Error("the README's broken file is another")
	}
	golden(t, "../../README.md", strings.Replace(readme, "```text\n"+block(t, readme, "text"), "```text\n"+plain, 1))
}

// refused is what check says of a web.container of root's, which has errors.
func refused(t *testing.T, file string) (plain, object string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.container"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	m := machine{clock: time.Now, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": dir}[name]
	}}
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"check"}, m, &stdout, &stderr); status != exitError {
		t.Errorf("status %d", status)
	}
	run(t.Context(), []string{"check", "--json"}, m, &stdout, &stderr)
	const usual = "/etc/containers/systemd"
	return strings.ReplaceAll(stderr.String(), dir, usual), strings.ReplaceAll(stdout.String(), dir, usual)
}

// block is the first code block of a language.
func block(t *testing.T, text, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "```"+language+"\n")
	body, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("no block of %s", language)
	}
	return body
}

// Colour is for terminals, and changes nothing else.
func TestColor(t *testing.T) {
	abs, err := filepath.Abs("testdata/hints")
	if err != nil {
		t.Fatal(err)
	}
	m := machine{clock: time.Now, uid: 1000, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": abs}[name]
	}}
	var stdout, plain, colored bytes.Buffer
	run(t.Context(), []string{"check"}, m, &stdout, &plain)
	m.color = true
	run(t.Context(), []string{"check"}, m, &stdout, &colored)
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(colored.String(), "\x1b[1;31merror\x1b[0m") {
		t.Errorf("plain %q, colored %q", &plain, &colored)
	}
	stripped := regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(colored.String(), "")
	if stripped != plain.String() {
		t.Errorf("without colour it is %s, not %s", stripped, &plain)
	}
}

// The caret stands below the byte of the column, whatever is before it.
func TestExcerpt(t *testing.T) {
	long := strings.Repeat("é", 200)
	for _, test := range []struct {
		text        string
		col         int
		line, caret string
	}{
		{"Key=value\r\n", 5, "Key=value", "    "},
		{"\tKey=\tvalue\n", 7, "\tKey=\tvalue", "\t    \t"},
		{"Kéy=x", 6, "Kéy=x", "    "},
		{"a\x1b[2Jb=\xff", 7, "a\ufffd[2Jb=\ufffd", "      "},
		{"abc", 4, "abc", "   "},
		{"abc", 5, "", ""},
		{long, 201, "…" + strings.Repeat("é", 30) + strings.Repeat("é", 20) + "…", strings.Repeat(" ", 31)},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte("first\n"+test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		line, caret, ok := excerpt(quadlet.Pos{File: path, Line: 2, Col: test.col})
		if line != test.line || caret != test.caret || ok != (test.line != "") {
			t.Errorf("%q at %d: %q, %q", test.text, test.col, line, caret)
		}
	}
}

// A search that could not see everything, and output that is lost, are not
// success.
func TestFailure(t *testing.T) {
	loop := t.TempDir()
	if err := errors.Join(os.Symlink("b", filepath.Join(loop, "a")), os.Symlink("a", filepath.Join(loop, "b"))); err != nil {
		t.Fatal(err)
	}
	basic, err := filepath.Abs("testdata/basic")
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, test := range []struct {
		dir    string
		args   []string
		stdout io.Writer
		stderr string
	}{
		{loop, []string{"check"}, io.Discard, "too many links"},
		{basic, []string{"check"}, full, "no space left"},
		{basic, []string{"check", "--json"}, full, "no space left"},
		{basic, []string{"render"}, full, "no space left"},
	} {
		m := machine{clock: time.Now, uid: 1000, getenv: func(name string) string {
			return map[string]string{"QUADLET_UNIT_DIRS": test.dir}[name]
		}}
		var stderr bytes.Buffer
		if status := run(t.Context(), test.args, m, test.stdout, &stderr); status != exitFailure || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%v: status %d: %s", test.args, status, &stderr)
		}
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: not as recorded (make golden, and read the difference); got:\n%s", path, got)
	}
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{}, exitUsage, "no command"},
		{[]string{"chek"}, exitUsage, `unknown command "chek"`},
		{[]string{"check", "--frob"}, exitUsage, "frob"},
		{[]string{"check", "nothing"}, exitUsage, `no scaled container "nothing"`},
		{[]string{"check", "/nowhere/x.container"}, exitUsage, "no such file"},
		{[]string{"--help"}, exitOK, ""},
		{[]string{"check", "--help"}, exitOK, ""},
	} {
		var stdout, stderr bytes.Buffer
		m := machine{getenv: func(string) string { return "" }, uid: 1000}
		if status := run(t.Context(), test.args, m, &stdout, &stderr); status != test.status {
			t.Errorf("%q: status %d, want %d", test.args, status, test.status)
		}
		if !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: stderr %q, want %q in it", test.args, stderr.String(), test.stderr)
		}
	}
}

// A file outside of the search directories is checked where it lies, and a
// name stands for a file inside them.
func TestCheckNames(t *testing.T) {
	abs, err := filepath.Abs("testdata/basic")
	if err != nil {
		t.Fatal(err)
	}
	inside := machine{clock: time.Now, uid: 1000, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": abs}[name]
	}}
	outside := machine{clock: time.Now, uid: 1000, getenv: func(string) string { return "" }}
	for _, test := range []struct {
		m   machine
		arg string
	}{
		{inside, "httpd"},
		{inside, "httpd.container"},
		{inside, "httpd.service"},
		{outside, "testdata/basic/httpd.container"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), []string{"check", test.arg}, test.m, &stdout, &stderr); status != exitOK {
			t.Errorf("check %s: status %d: %s", test.arg, status, &stderr)
		}
		want := "httpd.service: listens on 8080, stops 30s after the last connection\n"
		if stdout.String() != want {
			t.Errorf("check %s: %q, want %q", test.arg, stdout.String(), want)
		}
	}
}
