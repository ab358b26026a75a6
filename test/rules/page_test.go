package rules

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evanw/esbuild/pkg/api"
)

const page = repository + "/packaging/cockpit/"

// The page in Cockpit is run as it is written. A compiler reads it all the same:
// it knows what is no JavaScript, what is imported and is not there, and what is
// not meant so.
func TestPageScripts(t *testing.T) {
	result := api.Build(api.BuildOptions{
		EntryPoints: []string{page + "page.js", page + "theme.js"},
		Bundle:      true, Outdir: t.TempDir(), Metafile: true, LogLevel: api.LogLevelSilent, Target: api.ES2020,
	})
	for _, m := range slices.Concat(result.Errors, result.Warnings) {
		t.Errorf("%s:%d:%d: %s", m.Location.File, m.Location.Line, m.Location.Column, m.Text)
	}
	scripts, err := filepath.Glob(page + "*.js")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err, len(scripts))
	}
	for _, path := range scripts {
		if !strings.Contains(result.Metafile, `/`+filepath.Base(path)+`"`) {
			t.Errorf("%s is not used", path)
		}
	}
}

// What apps and files say never becomes markup or a script. What Cockpit's content
// security policy refuses is not written either: scripts and styles inside the page
// (cockpit(1), "content-security-policy" of manifest.json).
func TestPageIsSafe(t *testing.T) {
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|document\.write|\beval\b|new Function|DOMParser|javascript:|https?://[^w]`)
	files, err := filepath.Glob(page + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if found := forbidden.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", path, i+1, found)
			}
		}
	}
	html, err := os.ReadFile(page + "index.html")
	if err != nil {
		t.Fatal(err)
	}
	inside := regexp.MustCompile(`<style|\sstyle=|\son\w+=|<script[^>]*>[^<]`)
	if found := inside.FindString(string(html)); found != "" {
		t.Errorf("index.html has a script or a style inside: %q", found)
	}
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(string(html), -1) {
		if strings.HasPrefix(match[1], "../base1/") { // Cockpit's
			continue
		}
		if _, err := os.Stat(page + match[1]); err != nil {
			t.Errorf("index.html asks for %s: %v", match[1], err)
		}
	}
}
