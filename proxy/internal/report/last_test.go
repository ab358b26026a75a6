package report

import (
	"net"
	"path/filepath"
	"testing"
	"time"
)

// The end waits for who reads, and for nobody else.
func TestAwaitReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	awaitReader(path, time.Hour) // nobody is there
	journal, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	sender, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	if _, err := sender.Write([]byte("MESSAGE=last\n")); err != nil {
		t.Fatal(err)
	}
	const bound = 20 * time.Millisecond
	began := time.Now()
	awaitReader(path, bound) // nobody reads
	if waited := time.Since(began); waited < bound {
		t.Errorf("it has waited for %v, and nothing was read", waited)
	}
	took := make(chan struct{})
	go func() {
		defer close(took)
		awaitReader(path, time.Hour)
	}()
	for _, want := range []int{len("MESSAGE=last\n"), 0, 0} { // one empty datagram of each wait
		n, err := journal.Read(make([]byte, 100))
		if err != nil || n != want {
			t.Errorf("read %d bytes, want %d: %v", n, want, err)
		}
	}
	<-took
}
