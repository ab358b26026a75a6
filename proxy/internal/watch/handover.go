package watch

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// handover is what one watcher leaves to the next that follows at once, because
// it was killed or restarted: empty files in a directory that systemd keeps
// until the service is stopped (RuntimeDirectoryPreserve=restart).
type handover struct {
	dir   string // empty: there is none
	known map[string]bool
}

func (h *handover) has(name string) bool { return h.known[name] }

// set remembers that something is so, or is not.
func (h *handover) set(name string, yes bool) {
	if h.dir == "" || h.known[name] == yes {
		return
	}
	path := filepath.Join(h.dir, name)
	var err error
	if yes {
		err = os.WriteFile(path, nil, 0o600)
	} else {
		err = os.Remove(path)
	}
	if err == nil { // else the next look tries again
		h.known[name] = yes
	}
}

// mode is the name under which it remembers that the app wants a door not to
// block, see [door.open].
func mode(i int) string { return fmt.Sprintf("nonblocking-%d", i) }

// restore is called when systemd has just passed the doors.
func (h *handover) restore(doors []door) {
	h.known = make(map[string]bool)
	if h.dir == "" {
		return
	}
	entries, _ := os.ReadDir(h.dir) // what cannot be read was not written
	for _, e := range entries {
		h.known[e.Name()] = true
	}
	for i, d := range doors {
		if h.has(mode(i)) {
			_ = unix.SetNonblock(d.fd, true) // fails for no open descriptor
		}
	}
}

// note sees what the app has made of the doors.
func (h *handover) note(doors []door) {
	for i, d := range doors {
		if nonblocking, err := d.isNonblocking(); err == nil {
			h.set(mode(i), nonblocking)
		}
	}
}
