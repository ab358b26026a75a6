package proxy

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// memo is what one watcher leaves to the next that follows at once, because
// it was killed or restarted: empty files in a directory that systemd keeps
// until the service is stopped (RuntimeDirectoryPreserve=restart).
type memo struct {
	dir   string // empty: there is none
	known map[string]bool
}

func (m *memo) has(name string) bool { return m.known[name] }

// set remembers that something is so, or is not.
func (m *memo) set(name string, yes bool) {
	if m.dir == "" || m.known[name] == yes {
		return
	}
	path := filepath.Join(m.dir, name)
	var err error
	if yes {
		err = os.WriteFile(path, nil, 0o600)
	} else {
		err = os.Remove(path)
	}
	if err == nil { // else the next look tries again
		m.known[name] = yes
	}
}

// mode is the name under which it remembers that the app wants a door not to
// block, see [door.open].
func mode(i int) string { return fmt.Sprintf("nonblocking-%d", i) }

// restore is called when systemd has just passed the doors.
func (m *memo) restore(doors []door) {
	m.known = make(map[string]bool)
	if m.dir == "" {
		return
	}
	entries, _ := os.ReadDir(m.dir) // what cannot be read was not written
	for _, e := range entries {
		m.known[e.Name()] = true
	}
	for i, d := range doors {
		if m.has(mode(i)) {
			_ = unix.SetNonblock(d.fd, true) // fails for no open descriptor
		}
	}
}

// note sees what the app has made of the doors.
func (m *memo) note(doors []door) {
	for i, d := range doors {
		if nonblocking, err := d.isNonblocking(); err == nil {
			m.set(mode(i), nonblocking)
		}
	}
}
