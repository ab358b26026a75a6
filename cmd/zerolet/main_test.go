package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		uid:    1000,
		prefix: "/usr",
	}
	var stdout, stderr bytes.Buffer
	status := run([]string{"render", "--" + manager}, m, &stdout, &stderr)
	text := fmt.Sprintf("exit status %d\n%s\n%s", status, stderr.String(), stdout.String())
	return strings.ReplaceAll(text, abs, "/DIR")
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
		if status := run(test.args, m, &stdout, &stderr); status != test.status {
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
	inside := machine{uid: 1000, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": abs}[name]
	}}
	outside := machine{uid: 1000, getenv: func(string) string { return "" }}
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
		if status := run([]string{"check", test.arg}, test.m, &stdout, &stderr); status != exitOK {
			t.Errorf("check %s: status %d: %s", test.arg, status, &stderr)
		}
		want := "httpd.service: listens on 8080, stops 30s after the last connection\n"
		if stdout.String() != want {
			t.Errorf("check %s: %q, want %q", test.arg, stdout.String(), want)
		}
	}
}
