package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/quadlet"
)

// terminal is a terminal that is written to. It would obey what stands in a
// file, in its name or in the journal: whatever is written to it is made
// printable here, and nowhere else has to be.
type terminal struct{ io.Writer }

func (t terminal) Write(text []byte) (int, error) {
	if _, err := io.WriteString(t.Writer, quadlet.PrintableLines(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// output is how the command writes to a file: as it is, unless that is a
// terminal.
func output(f *os.File) io.Writer {
	if isTerminal(f) {
		return terminal{f}
	}
	return f
}

// control writes what a terminal is meant to obey.
func control(w io.Writer, sequence string) {
	if t, ok := w.(terminal); ok {
		w = t.Writer
	}
	_, _ = io.WriteString(w, sequence) // what is told in between fails, too
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) // as isatty(3) does
	return err == nil
}

// canMove reports whether a file is a terminal that can do more than print.
func canMove(f *os.File) bool { return isTerminal(f) && os.Getenv("TERM") != "dumb" }
