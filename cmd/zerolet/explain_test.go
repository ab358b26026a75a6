package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
)

// The thousands of ports that one line may have are one line of what is told.
func TestExplainPorts(t *testing.T) {
	dir := t.TempDir()
	text := "[Container]\nImage=x\n[ScaleToZero]\nListen=20000-24999:30000-34999\nListen=127.0.0.1:9000:80\n"
	if err := os.WriteFile(filepath.Join(dir, "web.container"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := generator.Generator{Search: quadlet.Search{Getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": dir}[name]
	}}}.Read()
	var b bytes.Buffer
	explainPorts(&b, p.Endpoints[0])
	got := strings.Join(strings.Fields(strings.ReplaceAll(b.String(), "\n", " ; ")), " ")
	want := "listens on 20000-24999, which lead to the container's ports 30000-34999 web.container:4 ; " +
		"listens on 127.0.0.1:9000, which leads to the container's port 80 web.container:5 ;"
	if got != want {
		t.Errorf("%s\nwant\n%s\n%s", got, want, fmt.Sprint(p.All()))
	}
}

// What comes of a file is told without a manager, too, and then that there is none.
func TestExplainWithoutManager(t *testing.T) {
	abs, err := filepath.Abs("testdata/basic")
	if err != nil {
		t.Fatal(err)
	}
	m := machine{clock: time.Now, uid: 1000, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": abs}[name]
	}}
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), []string{"explain", "--user", "httpd"}, m, &stdout, &stderr)
	text := stdout.String()
	if status != exitFailure || !strings.Contains(text, "httpd is made of\n") || !strings.Contains(text, "\nwhat happens:\n") ||
		strings.Contains(text, "awake") || !strings.Contains(stderr.String(), "XDG_RUNTIME_DIR") {
		t.Errorf("status %d: %s%s", status, text, &stderr)
	}
}
