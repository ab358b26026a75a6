package main

import (
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// awaitJournal waits until the journal has read what standard error was told, if
// that is its stream: of whom a line is, journald finds out by the cgroup of the
// process, and only the system's manager tells it the unit, too (log_context_*() and
// client_context_read_cgroup() in systemd's journald-context.c). What a user's
// service had said whose process ended before that is in no unit's journal. It waits
// for no longer than limit.
func awaitJournal(stderr *os.File, limit time.Duration) {
	if is, err := journal.StderrIsJournalStream(); err != nil || !is {
		return
	}
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(time.Millisecond) {
		// What the peer has not taken yet (SIOCOUTQ, unix_outq_len() in
		// net/unix/af_unix.c; TIOCOUTQ is the same number). There is no event for it.
		if left, err := unix.IoctlGetInt(int(stderr.Fd()), unix.TIOCOUTQ); err != nil || left == 0 {
			return
		}
	}
}
