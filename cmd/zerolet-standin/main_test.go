package main

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// Systemd starts a reverse proxy when the stand-in says that it is there: by then
// whoever connects is queued, and a stand-in that cannot listen has said nothing.
func TestReady(t *testing.T) {
	notify := filepath.Join(t.TempDir(), "notify")
	said, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	t.Setenv("NOTIFY_SOCKET", notify)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("lo:%d", taken.Addr().(*net.TCPAddr).Port)
	if err := serve("", []string{address}); err == nil {
		t.Error("it serves on a port that somebody else has")
	}
	_ = taken.Close()

	ended := make(chan error, 1)
	go func() { ended <- serve(filepath.Join(t.TempDir(), "nobody"), []string{address}) }()
	buf := make([]byte, 100)
	_ = said.SetReadDeadline(time.Now().Add(time.Minute))
	n, err := said.Read(buf)
	if got, want := string(buf[:n]), "READY=1"; err != nil || got != want {
		t.Fatalf("it says %q, want %q: %v", got, want, err)
	}
	client, err := net.Dial("tcp", taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	if err := <-ended; err == nil {
		t.Error("nobody was there to take the client, and it served on")
	}
	_ = said.SetReadDeadline(time.Now())
	if n, err := said.Read(buf); err == nil {
		t.Errorf("it says %q, too", buf[:n])
	}
}
