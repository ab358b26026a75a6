// Package command tests what a person sees of the command, by scripts: each
// file of testdata is one, for a machine of its own, as root and as the
// rootless user.
package command

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) { harness.Main(m) }

func TestCommand(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err, len(scripts))
	}
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txtar"), func(t *testing.T) {
			t.Parallel()
			harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
				if _, err := h.AppImage(t.Context()); err != nil {
					t.Fatal(err)
				}
				testscript.RunT(inTurn{t}, params(h, script))
			})
		})
	}
}

// inTurn runs a script when its machine is there: as a parallel test it would wait
// for a turn behind those who wait for a machine.
type inTurn struct{ *testing.T }

func (inTurn) Parallel()     {}
func (inTurn) Verbose() bool { return testing.Verbose() }

func (t inTurn) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(inTurn{t}) })
}

// params are a script's words besides those of testscript. "exec zerolet" runs
// the installed command in the session, "exec session" and "exec root" any
// other.
func params(h *harness.Host, script string) testscript.Params {
	w := words{h}
	return testscript.Params{
		Files: []string{script},
		Setup: w.setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"put": w.put, "until": w.until, "get": w.get, "hold": w.hold, "left": w.left, "scrape": scrape, "terminal": w.terminal,
		},
		Condition: func(name string) (bool, error) { return name == h.Name, nil },
	}
}

type words struct{ *harness.Host }

func (w words) setup(env *testscript.Env) error {
	bin := filepath.Join(env.WorkDir, "bin")
	err := os.Mkdir(bin, 0o755)
	for name, enter := range map[string][]string{
		"zerolet": append(w.Enter(), "zerolet"), "session": w.Enter(), "root": w.M.Root().Enter(),
	} {
		var line strings.Builder
		for _, word := range enter {
			fmt.Fprintf(&line, "'%s' ", word)
		}
		text := "#!/bin/sh\nexec " + line.String() + "\"$@\"\n"
		err = errors.Join(err, os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755))
	}
	scope := map[bool]string{false: "--system", true: "--user"}[w.UserManager]
	env.Vars = append(env.Vars,
		"PATH="+bin+":"+os.Getenv("PATH"), "SCOPE="+scope, "DIR="+w.QuadletDir, "UNITS="+w.UnitDir,
		fmt.Sprintf("PORT=%d", w.Port), fmt.Sprintf("PORT2=%d", w.Port+10), fmt.Sprintf("PORT3=%d", w.Port+20), fmt.Sprintf("PORT4=%d", w.Port+30))
	return err
}

// put FILE [PATH] writes a file of the script, variables replaced, into the
// Quadlet directory.
func (w words) put(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: put FILE [PATH]")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(w.Put(w.Context(), args[len(args)-1], text))
}

// until PATTERN COMMAND... runs a command in the session until its output
// matches.
func (w words) until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN COMMAND...")
	}
	pattern := regexp.MustCompile(args[0])
	w.await(ts, args[0], func() (bool, string) {
		out, _ := w.Session.Run(w.Context(), args[1:]...) // many tell by their status
		text := out.Stdout + out.Stderr
		return pattern.MatchString(text), text
	})
}

// left NAME waits until the proxy of a service, which was woken, has told that nobody is
// connected: zerolet sleep does not wait long for that.
func (w words) left(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: left NAME")
	}
	w.await(ts, "nobody is connected to "+args[0], func() (bool, string) {
		clients, reached, err := w.Connected(args[0])
		return reached && clients == 0, fmt.Sprintf("%d clients, reached: %t, %v", clients, reached, err)
	})
}

// await asks again and again.
func (w words) await(ts *testscript.TestScript, what string, ask func() (bool, string)) {
	for deadline := time.Now().Add(harness.Patience); ; time.Sleep(100 * time.Millisecond) {
		if is, text := ask(); is {
			ts.Logf("%s", text)
			return
		} else if time.Now().After(deadline) {
			ts.Fatalf("never %s:\n%s\n%s", what, text, w.LastJournal())
		}
	}
}

// get [PORT] makes a request that must be answered.
func (w words) get(ts *testscript.TestScript, neg bool, args []string) {
	h := *w.Host
	if len(args) == 1 {
		_, err := fmt.Sscan(args[0], &h.Port)
		ts.Check(err)
	}
	_, err := h.Get()
	if neg == (err == nil) {
		ts.Fatalf("request: %v", err)
	}
}

// hold opens a connection, which stays until the end of the script.
func (w words) hold(ts *testscript.TestScript, neg bool, args []string) {
	conn, err := w.M.Dial(w.Context(), "tcp", net.JoinHostPort("127.0.0.1", args[0]))
	if neg || err != nil {
		ts.Fatalf("hold: %v", err)
	}
	ts.Defer(func() { conn.Close() })
}
