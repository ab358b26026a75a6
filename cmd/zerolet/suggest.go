package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/generator/suggest"
	"github.com/zerolet/zerolet/quadlet"
)

// suggest prints the drop-ins that would make whole stacks sleep, and says what
// would not.
func (c *call) suggest(ctx context.Context) (int, error) {
	g, err := c.generatorOf(c.names)
	if err != nil {
		return exitUsage, err
	}
	stacks, ds := suggest.Stacks(ctx, g)
	for _, d := range ds {
		c.stderr.print(d)
	}
	if ds.HasErrors() {
		return exitFailure, errors.New("some files could not be read: nothing is suggested")
	}
	written, err := c.writeDropins(stacks)
	if err != nil {
		return exitFailure, err
	}
	if c.json {
		return exitOK, c.suggestJSON(stacks, written)
	}
	return exitOK, c.suggestText(stacks, written)
}

// generatorOf is the one that reads a directory in the place of the manager's, if
// one is named.
func (c *call) generatorOf(dirs []string) (generator.Generator, error) {
	g, _, err := c.generator(nil)
	if err != nil || len(dirs) == 0 {
		return g, err
	}
	dir, err := filepath.Abs(dirs[0])
	if err == nil {
		_, err = os.ReadDir(dir)
	}
	if err != nil {
		return g, failure{exitUsage, err.Error(), "name a directory with Quadlet files"}
	}
	g.Search.Getenv = func(name string) string {
		if name == "QUADLET_UNIT_DIRS" {
			return dir
		}
		return c.getenv(name)
	}
	g.AdminUnit = nil // the machine's units are no matter of these files
	return g, nil
}

// writeDropins writes what is missing, and returns the paths by the files that it is
// for. What is there stays as it is.
func (c *call) writeDropins(stacks []suggest.Stack) (map[string]string, error) {
	written := make(map[string]string)
	for _, s := range stacks {
		for _, d := range s.Dropins {
			path := filepath.Join(d.Dir(), d.Name(exists))
			if c.write {
				if err := d.Write(path); err != nil {
					return written, err
				}
			}
			written[d.File.Path] = path
		}
	}
	return written, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// suggestText prints the drop-ins as files, each below its path. All else is a
// comment.
func (c *call) suggestText(stacks []suggest.Stack, paths map[string]string) error {
	n, sleep := 0, 0
	for _, s := range stacks {
		n += len(s.Dropins)
		if s.Sleeps() {
			sleep++
		}
		if err := c.suggestOne(s, paths); err != nil {
			return err
		}
	}
	switch {
	case n == 0:
		return c.printf("# nothing is missing: %s, %d as a whole\n", plural(len(stacks), "stack"), sleep)
	case c.write:
		return c.printf("# %s written: zerolet apply --%s\n", plural(n, "drop-in"), c.manager)
	}
	again := []string{"zerolet", "suggest", "--" + c.manager.String(), "--write"}
	for _, dir := range c.names { // one at most
		again = typed(dir, again...)
	}
	return c.printf("# %s, nothing is written: %s\n", plural(n, "drop-in"), quadlet.Printable(strings.Join(again, " ")))
}

func (c *call) suggestOne(s suggest.Stack, paths map[string]string) error {
	for _, d := range s.Awake {
		c.stderr.print(d)
	}
	if len(s.Dropins) == 0 {
		return nil
	}
	var names []string
	for _, f := range s.Files {
		names = append(names, quadlet.Printable(f.Name()))
	}
	how := "sleeps as a whole"
	if !s.Sleeps() {
		how = "sleeps in part"
	}
	if err := c.printf("# %s: %s\n", strings.Join(names, " "), how); err != nil {
		return err
	}
	for _, d := range s.Dropins {
		if err := c.printf("# %s\n%s\n", quadlet.Printable(paths[d.File.Path]), d.Text); err != nil {
			return err
		}
	}
	return nil
}

// suggestion is what suggest --json prints; docs/diagnostics.md describes it.
type suggestion struct {
	Version int               `json:"version"`
	Stacks  []suggestionStack `json:"stacks"`
}

type suggestionStack struct {
	Files   []string           `json:"files"`
	Slept   bool               `json:"slept"`
	Sleeps  bool               `json:"sleeps"`
	Dropins []suggestionDropin `json:"dropins"`
	Awake   []reportDiagnostic `json:"awake"`
}

type suggestionDropin struct {
	File    string `json:"file"`
	Path    string `json:"path"`
	Text    string `json:"text"`
	Written bool   `json:"written"`
}

func (c *call) suggestJSON(stacks []suggest.Stack, paths map[string]string) error {
	all := suggestion{Version: 1, Stacks: []suggestionStack{}}
	for _, s := range stacks {
		out := suggestionStack{Slept: s.Slept, Sleeps: s.Sleeps(), Dropins: []suggestionDropin{}, Awake: newReport(&generator.Plan{}, s.Awake).Diagnostics}
		for _, f := range s.Files {
			out.Files = append(out.Files, f.Path)
		}
		for _, d := range s.Dropins {
			out.Dropins = append(out.Dropins, suggestionDropin{d.File.Path, paths[d.File.Path], d.Text, c.write})
		}
		all.Stacks = append(all.Stacks, out)
	}
	return c.printJSON(all)
}
