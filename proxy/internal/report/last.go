package report

import (
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// journalSocket is where journald takes records (systemd-journald.service(8)).
const journalSocket = "/run/systemd/journal/socket"

// readBound is how long an end waits for journald, which a slow disk holds up: less
// than what systemd waits for beyond [wire.DrainTimeout].
const readBound = 4 * time.Second

// awaitReader waits until journald has taken what was sent before, for the bound at
// most. journald looks in /proc for the unit of who has sent a record when it takes
// that (client_context_really_refresh in systemd's journald-context.c): of a process
// that is gone by then, and has been quiet for 5 s, there is none, and nobody finds the
// record. It takes one datagram after the other, and an empty one is nothing to it
// (server_process_datagram in journald-server.c). So once that is gone from the queue
// (SIOCOUTQ, unix(7)), all before it have been dealt with.
func awaitReader(path string, bound time.Duration) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return // nobody reads
	}
	defer conn.Close()
	deadline := time.Now().Add(bound)
	if conn.SetDeadline(deadline) != nil {
		return
	}
	if _, err := conn.Write(nil); err != nil {
		return
	}
	if raw, err := conn.SyscallConn(); err == nil {
		untilRead(raw, deadline)
	}
}

// AwaitReader waits likewise for what was said on stderr, if that is a stream of
// journald's: it looks for the unit when it reads the first line. It does one thing
// at a time, so that who has taken a datagram afterwards has dealt with the stream.
func AwaitReader(stderr *os.File) {
	deadline := time.Now().Add(readBound)
	if raw, err := stderr.SyscallConn(); err == nil && untilRead(raw, deadline) {
		awaitReader(journalSocket, time.Until(deadline))
	}
}

// untilRead waits until the other end has read all, and reports whether it has.
func untilRead(raw syscall.RawConn, deadline time.Time) bool {
	for pause := 100 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 10*time.Millisecond) {
		var queued int
		var err error
		if e := raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil || err != nil {
			return false
		}
		if queued == 0 {
			return true
		}
		time.Sleep(pause)
	}
	return false
}
