package report

import (
	"net"
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
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	for pause := 100 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 10*time.Millisecond) {
		var queued int
		if e := raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil || err != nil || queued == 0 {
			return
		}
		time.Sleep(pause)
	}
}
