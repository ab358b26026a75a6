// Command bench measures zerolet against what it stands beside, in the same
// run, and writes the figures into docs/internals/benchmarks.md. It tests nothing.
//
//	go run ./bench [CASE [ARGUMENT...]]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// bench is one case: its text is a section of the document, with a table.
type bench struct {
	name string
	run  func(ctx context.Context, args ...string) (text string, err error)
}

func benches() []bench {
	return []bench{{"generator", generator}, {"many", many}}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	if len(names) == 2 && names[0] == inside {
		return insideGenerator(ctx, names[1])
	}
	for _, b := range benches() {
		var args []string
		if len(names) > 0 {
			args = names[1:]
			if names[0] != b.name {
				continue
			}
		}
		text, err := b.run(ctx, args...)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Print(text)
		if err := record(b.name, text); err != nil {
			return err
		}
	}
	return nil
}

// record puts the text of a case into its place in the document.
func record(name, text string) error {
	const path = "../docs/internals/benchmarks.md"
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	start, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(data), start)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return errors.New(path + " has no place for " + name)
	}
	return os.WriteFile(path, []byte(before+start+text+end+after), 0o644)
}
