package rules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const repository = "../.."

// pages are the documents of the repository by their path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(repository, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "bin" || name == "dist" || name == ".git"):
			return filepath.SkipDir
		case filepath.Ext(name) == ".md":
			data, err := os.ReadFile(path)
			texts[name] = string(data)
			return err
		}
		return nil
	})
	if err != nil || len(texts) < 15 {
		t.Fatalf("%d documents: %v", len(texts), err)
	}
	return texts
}

var fences = regexp.MustCompile("(?ms)^```.*?^```")

// Documents are read in a terminal, too, and their changes in a mail. What is
// generated is no exception.
func TestColumns(t *testing.T) {
	const columns = 120
	for name, text := range pages(t) {
		for i, line := range strings.Split(text, "\n") {
			if n := utf8.RuneCountInString(line); n > columns {
				t.Errorf("%s:%d: %d columns", name, i+1, n)
			}
		}
	}
}

// What stands between backticks is on one line: who copies it, and the test that
// types it, get the whole command.
func TestCommandsAreWhole(t *testing.T) {
	for name, text := range pages(t) {
		for i, span := range strings.Split(fences.ReplaceAllString(text, ""), "`") {
			if i%2 == 1 && strings.Contains(span, "\n") {
				t.Errorf("%s breaks a line in %q", name, span)
			}
		}
	}
}

// A link of a document leads to a file of the repository, and to a heading of it.
func TestLinks(t *testing.T) {
	texts := pages(t)
	links := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	for name, text := range texts {
		for _, match := range links.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
			path, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s leads to %s: %v", name, match[1], err)
			} else if anchor != "" && !slices.Contains(anchors(texts[target]), anchor) {
				t.Errorf("%s leads to %s: no such heading", name, match[1])
			}
		}
	}
}

// anchors are those that GitHub makes of the headings of a document.
func anchors(text string) (names []string) {
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(match[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// A test that a document names is there.
func TestTests(t *testing.T) {
	there := make(map[string]bool)
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(data, -1) {
			there[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range pages(t) {
		for _, test := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			if !there[test] {
				t.Errorf("%s names %s: there is no such test", name, test)
			}
		}
	}
}

// The map of the code names every package of the module and of its tests once,
// and none that is gone. Its arrows are those that go list sees.
func TestMap(t *testing.T) {
	text := pages(t)["docs/internals/architecture.md"]
	lines := make(map[string]string)
	for _, match := range regexp.MustCompile("(?m)^- `([a-z/-]+)`((?:\\s→(?:\\s+`[a-z/-]+`,?)+)?):").FindAllStringSubmatch(text, -1) {
		if _, twice := lines[match[1]]; twice {
			t.Errorf("the map names %s twice", match[1])
		}
		lines[match[1]] = match[2]
	}
	there := make(map[string]bool)
	for _, p := range slices.Concat(list(t, repository), list(t, ".."), list(t, "../knative"), list(t, "../butane")) {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		there[name] = true
		arrows, known := lines[name]
		if !known {
			t.Errorf("the map does not name %s: what is its one trade?", name)
			continue
		}
		for _, i := range p.Imports {
			if to, ours := strings.CutPrefix(i, module+"/"); ours && !strings.Contains(arrows, fmt.Sprintf("`%s`", to)) {
				t.Errorf("the map has no arrow from %s to %s", name, to)
			}
		}
		for _, match := range regexp.MustCompile("`([a-z/-]+)`").FindAllStringSubmatch(arrows, -1) {
			if !slices.Contains(p.Imports, module+"/"+match[1]) {
				t.Errorf("the map has an arrow from %s to %s: it imports no such package", name, match[1])
			}
		}
	}
	for name := range lines {
		if !there[name] {
			t.Errorf("the map names %s: there is no such package", name)
		}
	}
}

// The glossary explains words of the code: none that it uses no more.
func TestGlossary(t *testing.T) {
	_, glossary, _ := strings.Cut(pages(t)["docs/internals/architecture.md"], "## Glossary")
	explained := regexp.MustCompile(`\*\*([a-z]+)\*\*`).FindAllStringSubmatch(glossary, -1)
	if len(explained) < 10 {
		t.Fatalf("a glossary of %d words", len(explained))
	}
	said := words(t)
	for _, match := range explained {
		if word := strings.TrimSuffix(match[1], "s"); !said[word] && !said[word+"s"] {
			t.Errorf("the glossary explains %q: no code says it", match[1])
		}
	}
}

// words are those that the names in the code of the programs are made of.
func words(t *testing.T) map[string]bool {
	t.Helper()
	said := make(map[string]bool)
	for _, root := range []string{"cmd", "generator", "proxy", "quadlet"} {
		err := filepath.WalkDir(filepath.Join(repository, root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if name, ok := n.(*ast.Ident); ok {
					for _, word := range regexp.MustCompile(`[A-Z]?[a-z]+`).FindAllString(name.Name, -1) {
						said[strings.ToLower(word)] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return said
}
