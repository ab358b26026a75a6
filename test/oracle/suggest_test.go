package oracle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/generator/suggest"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/test/corpus"
)

// TestSuggest writes what is suggested for the corpus: no file has an error that it
// had not, and nothing is left to suggest. It counts the stacks that sleep.
func TestSuggest(t *testing.T) {
	table := "| Podman | stacks | sleep as they are | sleep then | of several files | sleep then |\n|---|---|---|---|---|---|\n"
	ran := 0
	for _, o := range oracles() {
		bin := o.build(t)
		if !o.own {
			bin = ""
		}
		const m = quadlet.User // the other's are the same
		t.Run(o.version, func(t *testing.T) {
			dir := corpus.Plain(t)
			before := errorsOf(planOf(t, bin, dir, m))
			stacks := stacksOf(t, bin, dir, m)
			written := writeAll(t, stacks)
			if written == 0 {
				t.Fatal("nothing is suggested")
			}
			for _, d := range errorsOf(planOf(t, bin, dir, m)) {
				if !slices.Contains(before, d) {
					t.Errorf("an error that was not there: %v", d)
				}
			}
			again := stacksOf(t, bin, dir, m)
			for i, s := range again {
				if len(s.Dropins) > 0 || s.Sleeps() != stacks[i].Sleeps() || s.Slept != s.Sleeps() {
					t.Errorf("%s: sleeps %t, then %t; slept %t; left to suggest: %v", s.Files[0].Name(), stacks[i].Sleeps(), s.Sleeps(), s.Slept, s.Dropins)
				}
			}
			table += fmt.Sprintf("| %s | %s |\n", o.version, count(stacks))
			ran++
		})
	}
	if ran == len(oracles()) {
		document(t, "stacks", table)
	}
}

func stacksOf(t *testing.T, bin, dir string, m quadlet.Manager) []suggest.Stack {
	t.Helper()
	stacks, ds := suggest.Stacks(t.Context(), generatorOf(bin, dir, m))
	for _, d := range ds {
		t.Log(d)
	}
	return stacks
}

// writeAll does as "suggest --write".
func writeAll(t *testing.T, stacks []suggest.Stack) (n int) {
	t.Helper()
	for _, s := range stacks {
		for _, d := range s.Dropins {
			path := filepath.Join(d.Dir(), d.Name(func(path string) bool {
				_, err := os.Lstat(path)
				return err == nil
			}))
			if err := d.Write(path); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return n
}

func errorsOf(plan *generator.Plan) quadlet.Diagnostics {
	return slices.DeleteFunc(plan.All(), func(d quadlet.Diagnostic) bool { return d.Severity != quadlet.Error })
}

// count is how many stacks there are, slept, and sleep, and of those with several
// files.
func count(stacks []suggest.Stack) string {
	slept, sleep, several, together := 0, 0, 0, 0
	for _, s := range stacks {
		if s.Slept {
			slept++
		}
		if s.Sleeps() {
			sleep++
		}
		if len(s.Files) > 1 {
			several++
			if s.Sleeps() {
				together++
			}
		}
	}
	return fmt.Sprintf("%d | %d | %d | %d | %d", len(stacks), slept, sleep, several, together)
}
