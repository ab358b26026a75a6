package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/zerolet/zerolet/quadlet"
)

const identifier = "zerolet-generator"

// log writes where a generator is heard: to the journal, and before journald
// runs to the kernel's log (systemd.generator(7)), else to stderr.
type log struct {
	manager quadlet.Manager
	stderr  io.Writer
}

func newLog(m quadlet.Manager, stderr io.Writer) log { return log{m, stderr} }

func (l log) diagnostic(d quadlet.Diagnostic) {
	l.print(d.Severity, strings.ReplaceAll(d.String(), "\n", "; "))
}

func (l log) print(s quadlet.Severity, text string) {
	priority := journal.PriWarning
	if s == quadlet.Error {
		priority = journal.PriErr
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	if journal.Send(text, priority, fields) == nil {
		return
	}
	// A "<N>" prefix is the priority (sd-daemon(3)).
	line := "<" + strconv.Itoa(int(priority)) + ">" + identifier + ": " + text + "\n"
	if kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		_, err = kmsg.WriteString(line)
		kmsg.Close()
		if err == nil {
			return
		}
	}
	fmt.Fprint(l.stderr, line)
}
