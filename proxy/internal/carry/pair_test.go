package carry

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// carrying is loops, and where what they carry is counted.
func carrying(t *testing.T) (*Loops, *Account) {
	t.Helper()
	ls := proxytest.Must(NewLoops())(t)
	t.Cleanup(func() {
		ls.Cut()
		ls.Close()
	})
	return ls, &Account{Silenced: func() {}, Used: func() {}}
}

// dialTo connects without Go's poller.
func dialTo(t *testing.T, l *net.TCPListener) *sock.Socket {
	t.Helper()
	family, kind, sa := sock.Arguments(proxytest.AddrOf(l))
	fd := proxytest.Must(unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0))(t)
	if err := unix.Connect(fd, sa); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return sock.New(fd)
}

// acceptOn accepts without Go's poller.
func acceptOn(t *testing.T, l *net.TCPListener) *sock.Socket {
	t.Helper()
	fd := -1
	raw := proxytest.Must(l.SyscallConn())(t)
	proxytest.Eventually(t, "there is one to accept", func() bool {
		var err error
		raw.Control(func(lfd uintptr) { fd, _, err = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC) })
		return err == nil
	})
	return sock.New(fd)
}

// Both sides shut down is the end, and no reset, though a socket that is shut
// down in both directions looks as if it were gone.
func TestBothShutDownIsNoReset(t *testing.T) {
	ls, a := carrying(t)
	clients, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	apps := proxytest.Accepted(t, l)
	for range 300 {
		c := proxytest.Connect(t, clients.Addr().String())
		p := NewPair(acceptOn(t, clients), dialTo(t, l), ls.Next(), a, func() {})
		done := make(chan struct{})
		p.Start(func() { close(done) })
		app := proxytest.Next(t, apps)
		go app.CloseWrite()
		c.CloseWrite()
		<-done
		p.Close()
		if err := p.Err(); err != nil {
			t.Fatalf("taken for %v", err)
		}
	}
}

// What the client said stays with it until the app's kernel has taken it.
func TestResetUnheardKeepsRequest(t *testing.T) {
	l := proxytest.ListenTCP(t, "127.0.0.1:0")
	ls, account := carrying(t)
	apps := proxytest.Accepted(t, l)
	backend := dialTo(t, l)
	proxytest.ResetConn(proxytest.Next(t, apps))
	proxytest.Eventually(t, "the backend is reset", func() bool { return sock.IsGone(backend.FD) })
	// A client whose request is there already.
	clients := proxytest.ListenTCP(t, "127.0.0.1:0")
	c := proxytest.Connect(t, clients.Addr().String())
	io.WriteString(c, "request")
	proxytest.WaitSent(t, c)
	client := acceptOn(t, clients)
	p := NewPair(client, backend, ls.Next(), account, func() {})
	done := make(chan struct{})
	p.Start(func() { close(done) })
	<-done
	if !p.Unheard() {
		t.Fatalf("not unheard: %v", p.up.dstErr)
	}
	client.Unwake()
	p = NewPair(client, dialTo(t, l), ls.Next(), account, func() {})
	done = make(chan struct{})
	p.Start(func() { close(done) })
	a := proxytest.Next(t, apps)
	proxytest.Expect(t, a, "request")
	io.WriteString(a, "answer")
	a.CloseWrite()
	proxytest.Expect(t, c, "answer")
	c.Close()
	<-done
	p.Close()
	if p.Unheard() || p.up.sent != 7 || p.down.sent != 6 {
		t.Errorf("%d and %d bytes", p.up.sent, p.down.sent)
	}
}

// What is much goes through pipes, which are given back.
func TestPipesAreGivenBack(t *testing.T) {
	ls, a := carrying(t)
	clients, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	c := proxytest.Connect(t, clients.Addr().String())
	p := NewPair(acceptOn(t, clients), dialTo(t, l), ls.Next(), a, func() {})
	done := make(chan struct{})
	p.Start(func() { close(done) })
	much, got := make([]byte, 4<<20), make([]byte, 4<<20)
	go c.Write(much)
	proxytest.Must(io.ReadFull(c, got))(t)
	c.Close()
	<-done
	p.Close()
	if ls.pipes.count == 0 || len(ls.pipes.idle) != ls.pipes.count {
		t.Errorf("%d of %d pipes were given back", len(ls.pipes.idle), ls.pipes.count)
	}
}
