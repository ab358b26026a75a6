package proxy

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// onLoopback listens as a stand-in does, on the one interface that is everywhere.
func onLoopback(t *testing.T, family, kind, protocol int) (fd, port int) {
	t.Helper()
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		t.Fatal(err)
	}
	var local unix.Sockaddr = &unix.SockaddrInet6{}
	if family == unix.AF_INET {
		local = &unix.SockaddrInet4{}
	}
	for _, err := range []error{unix.BindToDevice(fd, "lo"), unix.Bind(fd, local)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, int(sock.Address(wire.TCP, at).IP.Port())
}

// A stand-in that somebody has taken over can pass what it likes: nothing is taken
// but a listening TCP socket for each of the forwards, and no descriptor is left.
func TestStandInPasses(t *testing.T) {
	good, port := onLoopback(t, unix.AF_INET6, unix.SOCK_STREAM, 0)
	four, fourPort := onLoopback(t, unix.AF_INET, unix.SOCK_STREAM, 0)
	other, _ := onLoopback(t, unix.AF_INET6, unix.SOCK_STREAM, 0)
	udp, udpPort := onLoopback(t, unix.AF_INET6, unix.SOCK_DGRAM, 0)
	config := net.ListenConfig{}
	config.SetMultipathTCP(false)
	plain := proxytest.FilesOf(t, proxytest.Must(config.Listen(t.Context(), "tcp", ":0"))(t).(*net.TCPListener))[0]
	file := proxytest.Must(os.Open(os.DevNull))(t)
	ends := proxytest.Must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0))(t)
	mptcp, mptcpPort := -1, 0
	if fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP); err == nil {
		unix.Close(fd)
		mptcp, mptcpPort = onLoopback(t, unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	}
	var forwards []wire.Forward
	for _, p := range []int{port, fourPort, udpPort, mptcpPort} {
		if p > 0 {
			forwards = append(forwards, wire.Forward{Listen: wire.StandInAddress("lo", uint16(p))})
		}
	}
	for name, test := range map[string]struct {
		fds  []int
		says string
	}{
		"its sockets":    {[]int{good, four}, ""},
		"one alone":      {[]int{good}, ""},
		"none":           {nil, "there are none"},
		"one twice":      {[]int{good, good}, "two for network:lo:"},
		"another port":   {[]int{good, other}, "no --forward= for network:lo:"},
		"every network":  {[]int{int(plain.Fd())}, "no --forward= for [::]:"},
		"datagrams":      {[]int{udp}, "is no port of every address"},
		"no socket":      {[]int{int(file.Fd())}, "non-socket"},
		"a unix socket":  {[]int{ends[0]}, "neither a listening"},
		"more than many": {[]int{good, four, good, four, good, four, good}, "more than it has ports"},
		"mptcp":          {[]int{mptcp}, "is no port of every address"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "mptcp" && mptcp < 0 {
				t.Skip("the kernel has none")
			}
			before := openFiles(t)
			pair := proxytest.Must(unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0))(t)
			var rights []byte
			if len(test.fds) > 0 {
				rights = unix.UnixRights(test.fds...)
			}
			if err := unix.Sendmsg(pair[0], []byte{0}, rights, nil, 0); err != nil {
				t.Fatal(err)
			}
			s := &standIn{forwards: forwards}
			conn := sock.New(pair[1])
			ls, err := s.receive(conn)
			if test.says == "" && (err != nil || len(ls) != len(test.fds)) {
				t.Errorf("%d sockets, %v", len(ls), err)
			}
			if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			closeAll(ls)
			conn.Close()
			unix.Close(pair[0])
			if after := openFiles(t); after > before { // the collector may close some
				t.Errorf("%d files are left, of %d", after, before)
			}
		})
	}
	for _, fd := range []int{good, four, other, udp, ends[0], ends[1], mptcp} {
		unix.Close(fd)
	}
}

// openFiles are the sockets of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && (strings.HasPrefix(target, "socket:") || target == os.DevNull) {
			n++
		}
	}
	return n
}

// A stand-in brings its sockets while the proxy runs, and another one in its place.
// One that has accept(2) wait holds up nobody but its own clients.
func TestStandInBlocks(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = 100 * time.Millisecond
	first, port := onLoopback(t, unix.AF_INET6, unix.SOCK_STREAM, 0)
	cfg.StandIn = filepath.Join(t.TempDir(), "proxy")
	cfg.Forwards = append(cfg.Forwards, wire.Forward{Listen: wire.StandInAddress("lo", uint16(port)), Target: proxytest.AddrOf(l)})
	control := proxytest.Must(net.ListenUnix("unixpacket", &net.UnixAddr{Name: cfg.StandIn, Net: "unixpacket"}))(t)
	defer control.Close()
	files := append(proxytest.FilesOf(t, front), proxytest.Must(control.File())(t))
	r := prepareServer(t, cfg, files)
	r.standIn.unit.Assume(proxytest.OwnCgroup(t))
	keep := proxytest.Connect(t, front.Addr().String()) // until all has been tried
	r.run(t)
	proxytest.Ask(t, keep, "ping")

	address := net.JoinHostPort("127.0.0.1", proxytest.Itoa(uint16(port)))
	bring := func(fd int) *net.UnixConn {
		t.Helper()
		conn := proxytest.Must(net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: cfg.StandIn, Net: "unixpacket"}))(t)
		if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	conn := bring(first)
	c := proxytest.Connect(t, address)
	proxytest.Ask(t, c, "ping")
	c.Close()
	conn.Close()
	proxytest.Eventually(t, "the proxy has let go of the first sockets", func() bool {
		r.listening.Lock()
		defer r.listening.Unlock()
		return len(r.listeners) == 1
	})
	conn = bring(first)
	defer conn.Close()
	c = proxytest.Connect(t, address)
	proxytest.Ask(t, c, "ping")
	if err := unix.SetNonblock(first, false); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c = proxytest.Connect(t, address) // has accept be called once more
	proxytest.Ask(t, c, "ping")
	c.Close()
	keep.Close()
	r.wait(t)
	if !strings.Contains(r.log.String(), "holds up") {
		t.Errorf("nobody was held up: %s", r.log)
	}
	unix.Close(first)
}
