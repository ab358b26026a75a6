package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// suggested is what suggest says of a directory.
func suggested(t *testing.T, dir string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	m := machine{uid: 1000, unprivileged: 1024, getenv: func(string) string { return "" }}
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"suggest", "--user", dir}, args...), m, &out, &errs)
	clean := func(text string) string { return strings.ReplaceAll(text, dir, "/DIR") }
	return status, clean(out.String()), clean(errs.String())
}

// What is suggested for some stacks, and, once it is written, nothing more.
func TestSuggest(t *testing.T) {
	for _, stacks := range []string{"suggest", "suggest-behind", "suggest-called", "suggest-recipe", "suggest-apart", "suggest-told"} {
		t.Run(stacks, func(t *testing.T) { testSuggest(t, stacks) })
	}
}

func testSuggest(t *testing.T, stacks string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "systemd")
	if err := os.CopyFS(dir, os.DirFS("testdata/"+stacks)); err != nil {
		t.Fatal(err)
	}
	status, first, why := suggested(t, dir)
	golden(t, "testdata/"+stacks+".drop-ins", first+"\n"+why)
	if status != exitOK {
		t.Errorf("status %d", status)
	}
	if _, again, _ := suggested(t, dir); again != first {
		t.Errorf("something has changed: %s", again)
	}
	_, written, _ := suggested(t, dir, "--write")
	if a, b := strings.Count(first, ".container.d/"), strings.Count(written, ".container.d/"); a != b || !strings.Contains(written, " written: ") {
		t.Errorf("%d suggested, %d written: %s", a, b, written)
	}
	for _, d := range checked(t, dir).Diagnostics {
		if strings.HasSuffix(d.File, ".container.d/zerolet.conf") {
			t.Errorf("what is written has a %s: %s", d.Severity, d.Message)
		}
	}
	status, last, whyLast := suggested(t, dir)
	if status != exitOK || !strings.HasPrefix(last, "# nothing is missing: ") {
		t.Errorf("status %d: %s", status, last)
	}
	if whyLast != why {
		t.Errorf("other reasons than before:\n%s\nwere\n%s", whyLast, why)
	}
}

// Nothing that is there is written over, whatever it is.
func TestSuggestOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.container")
	other := filepath.Join(dir, "other")
	for path, text := range map[string]string{file: "[Container]\nImage=localhost/web\nPublishPort=8080:80\n", other: "# mine"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(file+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(file+".d", "zerolet.conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(file+".d", "zerolet-2.conf")); err != nil {
		t.Fatal(err)
	}
	status, out, errs := suggested(t, dir, "--write")
	if status != exitOK || !strings.Contains(out, "web.container.d/zerolet-3.conf") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if text := read(t, other); text != "# mine" {
		t.Errorf("a file is overwritten: %s", text)
	}
}

// docs/diagnostics.md describes each field of the JSON.
func TestSuggestJSON(t *testing.T) {
	_, out, errs := suggested(t, "testdata/suggest", "--json")
	var s suggestion
	decoder := json.NewDecoder(strings.NewReader(out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil || s.Version != 1 || errs != "" {
		t.Fatalf("%v, version %d, %s", err, s.Version, errs)
	}
	doc := read(t, "../../docs/diagnostics.md")
	for _, shape := range []any{suggestion{}, suggestionStack{}, suggestionDropin{}} {
		for i := range reflect.TypeOf(shape).NumField() {
			if name := reflect.TypeOf(shape).Field(i).Tag.Get("json"); !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("the document does not describe %s", name)
			}
		}
	}
}
