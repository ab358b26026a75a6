// Command bench measures zerolet against what it stands beside, in the same
// run, and writes the figures into docs/internals/benchmarks.md. It tests nothing.
//
//	go run ./bench [CASE [ARGUMENT...]]
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/zerolet/zerolet/test/bench/page"
)

// bench is one case: its text is a section of the document, with a table.
type bench struct {
	name string
	run  func(ctx context.Context, args ...string) (text string, err error)
}

func benches() []bench {
	return []bench{{"generator", generator}, {"many", many}, {"freeze", freezing}, {"health", health}}
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
		if err := page.Replace("../docs/internals/benchmarks.md", b.name, text); err != nil {
			return err
		}
	}
	return nil
}
