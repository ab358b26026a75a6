package command

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zerolet/zerolet/test/harness"
)

const (
	columns = 120
	rows    = 24
)

// terminal FILE PATTERN [NAME=VALUE...] COMMAND... runs a command on a terminal
// of the session until what it has written matches. That is in FILE, and what
// the screen then shows in FILE.screen. Ctrl-C has to end the command.
func (w words) terminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: terminal FILE PATTERN [NAME=VALUE...] COMMAND...")
	}
	pattern := regexp.MustCompile(args[1])
	line := append(append(w.Enter(), "TERM=xterm"), args[2:]...)
	cmd := exec.CommandContext(w.Context(), line[0], line[1:]...)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: columns})
	ts.Check(err)
	defer tty.Close()
	ts.Check(tty.SetReadDeadline(time.Now().Add(harness.Patience)))
	screen := vt10x.New(vt10x.WithSize(columns, rows))
	var written bytes.Buffer
	matched := false
	for buf := make([]byte, 4096); ; {
		n, err := tty.Read(buf)
		if err != nil { // EIO: everybody has left it
			if matched && !os.IsTimeout(err) {
				break
			}
			ts.Fatalf("matched: %v, then %v:\n%q", matched, err, &written)
		}
		if matched {
			continue
		}
		written.Write(buf[:n])
		_, _ = screen.Write(buf[:n]) // into memory
		if pattern.Match(written.Bytes()) {
			matched = true
			ts.Check(os.WriteFile(ts.MkAbs(args[0]), written.Bytes(), 0o600))
			ts.Check(os.WriteFile(ts.MkAbs(args[0]+".screen"), []byte(shown(screen)), 0o600))
			_, _ = tty.WriteString("\x03") // it may have ended by itself
		}
	}
	_ = cmd.Wait() // by Ctrl-C
}

// shown is what stands on a screen.
func shown(screen vt10x.Terminal) string {
	var text strings.Builder
	for line := range strings.Lines(screen.String()) {
		text.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return strings.TrimRight(text.String(), "\n") + "\n"
}
