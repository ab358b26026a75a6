package convert

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

// program writes a shell script that stands for the machine's Quadlet.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quadlet")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// files are what a new directory holds.
func files(t *testing.T, texts map[string]string) *quadlet.Sources {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sources, _ := quadlet.Scan([]quadlet.Tree{{dir}})
	return sources
}

// A Quadlet that cannot serve is passed over: one that hangs, also with a child
// that keeps its output open, one that is killed, one that is too old. The file
// is converted all the same, and the diagnostic says why otherwise than meant.
func TestUselessQuadlet(t *testing.T) {
	sources := files(t, map[string]string{"web.container": "[Container]\nImage=localhost/web\nPublishPort=8080:80\n"})
	for name, test := range map[string]struct{ script, message string }{
		"hangs":          {"exec sleep 1000", "it did not end within 200ms"},
		"hangs later":    {`[ "$1" = -version ] && echo 5.8.2 && exit; exec sleep 1000`, "it did not end within 200ms"},
		"leaves a child": {"sleep 120 & wait", "it did not end within 200ms"},
		"is killed":      {"kill -SEGV $$", "signal: segmentation fault"},
		"is too old":     {"echo 5.2.1", "version 5.2 is older than 5.3"},
		"says nothing":   {"", `its version is not known: ""`},
	} {
		t.Run(name, func(t *testing.T) {
			f, _ := sources.Find("web.container")
			c := Config{Quadlet: program(t, test.script), Sources: sources, TempDir: t.TempDir(), Timeout: time.Minute}
			if strings.Contains(test.script, "sleep") {
				c.Timeout = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			results, ds := Run(ctx, c, []Override{{File: f, Settings: []Setting{{"PublishPort", ""}, {"PublishPort", "127.0.0.1:61000:80"}}}})
			if ctx.Err() != nil {
				t.Error("it was waited for")
			}
			if len(ds) != 1 || !strings.Contains(ds[0].Message, test.message) {
				t.Errorf("diagnostics %v, want %q", ds, test.message)
			}
			line, ok := results[0].Service.Last("Service", "ExecStart")
			if !ok || !strings.Contains(line.Value, "127.0.0.1:61000:80") {
				t.Errorf("the embedded Quadlet made %+v", results[0])
			}
			if left, err := os.ReadDir(c.TempDir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// A Quadlet that dies of one file does not keep the embedded one from the rest.
func TestCrashOfOneFile(t *testing.T) {
	sources := files(t, map[string]string{
		"a.container": "[Container]\nImage=localhost/a\nMount=type=bind,source=,target=/x\n",
		"b.container": "[Container]\nImage=localhost/b\n",
	})
	var overrides []Override
	for _, path := range sources.Units() {
		f, _ := sources.Load(path)
		overrides = append(overrides, Override{File: f})
	}
	results, _ := Run(t.Context(), Config{Sources: sources}, overrides)
	if results[0].Service != nil || !results[0].Diagnostics.HasErrors() {
		t.Errorf("a.container: %+v", results[0])
	}
	if results[1].Service == nil {
		t.Errorf("b.container: %v", results[1].Diagnostics)
	}
}

// What Quadlet says of a file stands at the line that it is about.
func TestLocate(t *testing.T) {
	f, _ := quadlet.Parse("/d/web.container", []byte("[Unit]\n[Container]\nImage=x.image\n Foo=1\n[Service]\nKillMode=process\n"))
	for message, want := range map[string]string{
		"unsupported key 'Foo' in group 'Container' in /d/web.container": "/d/web.container:4:2: error: quadlet: unsupported key 'Foo' in group 'Container'",
		"invalid KillMode 'process'":                                     "/d/web.container:6:1: error: quadlet: invalid KillMode 'process'",
		"requested Quadlet image x.image was not found":                  "/d/web.container:3:1: error: quadlet: requested Quadlet image x.image was not found",
		"something else": "/d/web.container:2:1: error: quadlet: something else",
	} {
		got, _, _ := strings.Cut(refused(f, message)[0].String(), "\nhint:")
		if got != want {
			t.Errorf("%q: %s, want %s", message, got, want)
		}
	}
}
