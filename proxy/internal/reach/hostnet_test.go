package reach

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// onHost is the host's network with the test as the app, or as somebody else.
func onHost(t testing.TB, app bool) *hostNetwork {
	t.Helper()
	h := newHostNetwork(ownCgroup(t))
	t.Cleanup(h.Close)
	if !app {
		h.cgroup.dirs[0] = t.TempDir()
	}
	return h
}

// Who listens in the host's network and is not in the container's unit is not
// reached, by neither protocol nor family.
func TestStrangerOnHostNetwork(t *testing.T) {
	for name, addr := range map[string]wire.Address{
		"tcp":  proxytest.AddrOf(proxytest.ListenTCP(t, "127.0.0.1:0")),
		"tcp6": proxytest.AddrOf(proxytest.ListenTCP(t, "[::1]:0")),
		"dual": wire.TCPAddress(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), proxytest.AddrOf(proxytest.ListenTCP(t, "[::]:0")).IP.Port())),
		"udp":  udpApp(t, "127.0.0.1:0"),
		"udp6": udpApp(t, "[::1]:0"),
	} {
		backend, err := DialOne(onHost(t, true), addr, netip.AddrPort{})
		if err != nil {
			t.Errorf("%s: the app: %v", name, err)
		} else {
			backend.Close()
		}
		if _, err := DialOne(onHost(t, false), addr, netip.AddrPort{}); !errors.Is(err, errStranger) {
			t.Errorf("%s: %v, want %v", name, err, errStranger)
		}
	}
}

func udpApp(t *testing.T, addr string) wire.Address {
	t.Helper()
	c := proxytest.Must(net.ListenPacket("udp", addr))(t)
	t.Cleanup(func() { c.Close() })
	return wire.Address{Network: wire.UDP, IP: c.LocalAddr().(*net.UDPAddr).AddrPort()}
}

// Nobody is there to get a datagram, and none is sent.
func TestNobodyOnHostNetwork(t *testing.T) {
	c := proxytest.Must(net.ListenPacket("udp", "127.0.0.1:0"))(t)
	addr := wire.Address{Network: wire.UDP, IP: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	c.Close()
	if _, err := DialOne(onHost(t, true), addr, netip.AddrPort{}); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%v, want %v", err, unix.ECONNREFUSED)
	}
}

// An app that is done with a connection before anybody has looked is known by
// its listener from the second connection on, but a thief never is.
func TestShortWordsOnHostNetwork(t *testing.T) {
	for name, end := range map[string]func(*net.TCPConn){"closed": func(c *net.TCPConn) { c.Close() }, "reset": proxytest.ResetConn} {
		for _, app := range []bool{true, false} {
			l := proxytest.ListenTCP(t, "127.0.0.1:0")
			h := onHost(t, app)
			first, second := dialAndEnd(t, h, l, end), dialAndEnd(t, h, l, end)
			switch {
			case app && (first != nil && !errors.Is(first, errUnproven) || second != nil),
				!app && (!errors.Is(first, errStranger) || !errors.Is(second, errStranger)):
				t.Errorf("%s, app %v: %v, then %v", name, app, first, second)
			}
		}
	}
}

// dialAndEnd looks at a connection that its far end has ended.
func dialAndEnd(t *testing.T, h *hostNetwork, l *net.TCPListener, end func(*net.TCPConn)) error {
	t.Helper()
	c := proxytest.Must(net.Dial("tcp", l.Addr().String()))(t).(*net.TCPConn)
	defer c.Close()
	end(proxytest.Must(l.AcceptTCP())(t))
	file := proxytest.Must(c.File())(t)
	defer file.Close()
	proxytest.Eventually(t, "the end has come", func() bool { return sock.Ready(int(file.Fd()), unix.POLLIN) })
	return h.Verify(int(file.Fd()), proxytest.AddrOf(l))
}

// Without sock_diag nobody is taken for the app.
func TestUntoldOnHostNetwork(t *testing.T) {
	l := proxytest.ListenTCP(t, "127.0.0.1:0")
	h := onHost(t, true)
	if err := h.within(sock.Info{}); !errors.Is(err, errUntold) {
		t.Errorf("%v, want %v", err, errUntold)
	}
	c := proxytest.Connect(t, l.Addr().String())
	file := proxytest.Must(c.File())(t)
	defer file.Close()
	nowhere := proxytest.Must(wire.ParseAddress("192.0.2.1:1"))(t)
	if err := h.absent(int(file.Fd()), nowhere); !errors.Is(err, errUntold) {
		t.Errorf("%v, want %v", err, errUntold)
	}
	h.err = unix.EPROTONOSUPPORT
	if _, err := DialOne(h, proxytest.AddrOf(l), netip.AddrPort{}); !errors.Is(err, h.err) {
		t.Errorf("%v, want %v", err, h.err)
	}
}

// What it costs to know who answers, once for a connection.
func BenchmarkDial(b *testing.B) {
	tcp, file := proxytest.ListenTCP(b, "127.0.0.1:0"), proxytest.ListenUnix(b)
	for _, l := range []net.Listener{tcp, file} {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
	for _, c := range []struct {
		name   string
		source Source
		addr   wire.Address
	}{
		{"tcp/any", ownNamespace{}, proxytest.AddrOf(tcp)},
		{"tcp/host", onHost(b, true), proxytest.AddrOf(tcp)},
		{"unix/any", ownNamespace{}, proxytest.AddrOf(file)},
		{"unix/volume", files(b), proxytest.AddrOf(file)},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				s, err := DialOne(c.source, c.addr, netip.AddrPort{})
				switch {
				case err == nil:
					s.Reset()
				case !IsStarting(err): // else the backlog is full
					b.Fatal(err)
				}
			}
		})
	}
}
