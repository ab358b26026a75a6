package service

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A socket is there while its file leads to it, however the kernel tells.
func TestUnixSockets(t *testing.T) {
	for name, sockets := range map[string]func() ([]unixSocket, error){"sock_diag": diagnosedSockets, "proc": listedSockets} {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		isThere := func() bool {
			all, err := sockets()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for _, s := range all {
				if s.Listener == (Listener{path, "Stream"}) {
					return s.isThere() && (s.owner == int64(os.Getuid()) || s.owner == -1)
				}
			}
			t.Fatalf("%s: the socket is not among %d", name, len(all))
			return false
		}
		if !isThere() {
			t.Errorf("%s: it is not there", name)
		}
		if err := os.Rename(path, path+".away"); err != nil || isThere() {
			t.Errorf("%s: it is there without its file: %v", name, err)
		}
		other, err := net.Listen("unix", path+".other")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if err := os.Rename(path+".other", path); err != nil || isThere() && name == "sock_diag" {
			t.Errorf("%s: it is there though its file is another's: %v", name, err)
		}
	}
}

// The kernel tells of the sockets of TCP and UDP, and not of those of a protocol
// that has none.
func TestInetDiag(t *testing.T) {
	for protocol, tells := range map[byte]bool{unix.IPPROTO_TCP: true, unix.IPPROTO_UDP: true, 200: false} {
		if err := InetDiag(protocol); (err == nil) != tells {
			t.Errorf("protocol %d: %v", protocol, err)
		}
	}
}
