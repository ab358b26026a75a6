package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/wire"
)

// joined is a client and an app with the proxy between.
func joined(t testing.TB) (r *running, client func() *net.TCPConn, apps <-chan *net.TCPConn) {
	t.Helper()
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r = serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	return r, func() *net.TCPConn { return proxytest.Connect(t, r.addr) }, proxytest.Accepted(t, l)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// either runs a test from the client's side and from the app's.
func either(t *testing.T, test func(t *testing.T, r *running, near, far *net.TCPConn)) {
	for _, side := range []string{"client", "app"} {
		t.Run(side, func(t *testing.T) {
			r, client, apps := joined(t)
			c := client()
			a := proxytest.Next(t, apps)
			if side == "client" {
				test(t, r, c, a)
			} else {
				test(t, r, a, c)
			}
			proxytest.Eventually(t, "the connection ends", func() bool { return r.activity.open.Load() == 0 })
		})
	}
}

// Who shuts down his side still gets everything from the other.
func TestHalfClose(t *testing.T) {
	either(t, func(t *testing.T, _ *running, near, far *net.TCPConn) {
		data := random(3 << 20)
		go func() {
			near.Write(data[:1<<20])
			near.CloseWrite()
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, data[:1<<20]) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		go func() {
			far.Write(data[1<<20:])
			far.CloseWrite()
		}()
		got, err = io.ReadAll(near)
		if err != nil || !bytes.Equal(got, data[1<<20:]) {
			t.Fatalf("got %d bytes back, %v", len(got), err)
		}
	})
}

// A reset arrives as a reset, after every byte that was received before it,
// even if the receiver takes its time.
func TestResetAfterDelivery(t *testing.T) {
	data := random(256 << 10)
	check := func(t *testing.T, near, far *net.TCPConn) {
		near.Write(data)
		proxytest.WaitSent(t, near)
		proxytest.ResetConn(near)
		proxytest.Expect(t, io.LimitReader(far, int64(len(data))), string(data))
		proxytest.ExpectReset(t, far)
	}
	t.Run("app", func(t *testing.T) {
		r, _, apps := joined(t)
		c := proxytest.ConnectSmall(t, r.addr)
		check(t, proxytest.Next(t, apps), c)
	})
	t.Run("client", func(t *testing.T) {
		front := proxytest.ListenTCP(t, "127.0.0.1:0")
		l := proxytest.ListenTCP(t, "127.0.0.1:0")
		raw := proxytest.Must(l.SyscallConn())(t)
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
		r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
		apps := proxytest.Accepted(t, l)
		c := proxytest.Connect(t, r.addr)
		check(t, c, proxytest.Next(t, apps))
	})
}

// A reset in mid-stream is never taken for an end, though the kernel tells of
// it only once and the direction that writes may be the one to hear.
func TestResetIsNoEnd(t *testing.T) {
	either(t, func(t *testing.T, r *running, near, far *net.TCPConn) {
		resetWhileWriting(t, near, far)
	})
	r, client, apps := joined(t)
	for range 300 {
		c := client()
		resetWhileWriting(t, proxytest.Next(t, apps), c)
	}
	proxytest.Eventually(t, "the connections end", func() bool { return r.activity.open.Load() == 0 })
}

// resetWhileWriting resets near while far sends what near does not read.
func resetWhileWriting(t *testing.T, near, far *net.TCPConn) {
	t.Helper()
	io.WriteString(near, "half an ans")
	proxytest.Expect(t, far, "half an ans")
	writing := make(chan struct{})
	go func() {
		chunk := make([]byte, 512)
		for i := 0; ; i++ {
			if i == 10 {
				close(writing)
			}
			if _, err := far.Write(chunk); err != nil {
				return
			}
		}
	}()
	<-writing
	proxytest.ResetConn(near)
	rest, err := io.ReadAll(far)
	// The writer above may have taken the error in this process, too.
	if len(rest) > 0 || err == nil && !brokenForWriting(far) {
		t.Fatalf("got %d bytes and %v, want a reset", len(rest), err)
	}
}

// brokenForWriting tells a reset from a FIN after the fact.
func brokenForWriting(c *net.TCPConn) bool {
	info := tcpInfo(c)
	return info != nil && info.State == 7 // TCP_CLOSE
}

func tcpInfo(c *net.TCPConn) (info *unix.TCPInfo) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	raw.Control(func(fd uintptr) { info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	return info
}

// A server may answer in full and close without having read the request. The
// client gets the answer and its end, even what had not left the proxy's
// receive buffer when the reset came.
func TestAnswerBeforeRequestIsRead(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	raw := proxytest.Must(front.SyscallConn())(t)
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) }) // inherited
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	apps := proxytest.Accepted(t, l)
	answer := random(104 << 10)
	c := proxytest.ConnectSmall(t, r.addr)
	a := proxytest.Next(t, apps)
	go c.Write(make([]byte, 8<<20))
	proxytest.Eventually(t, "the request is under way", func() bool { return r.activity.In.Load() > 0 })
	a.Write(answer)
	a.CloseWrite()
	proxytest.WaitSent(t, a)
	a.Close() // unread data makes it a reset
	proxytest.Expect(t, io.LimitReader(c, int64(len(answer))), string(answer))
	if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the answer: %d bytes, %v", len(rest), err)
	}
	proxytest.Eventually(t, "the connection ends", func() bool { return r.activity.open.Load() == 0 })
}

// Who has shut down his side and then goes away altogether is not waited for.
func TestGoneAfterHalfClose(t *testing.T) {
	either(t, func(t *testing.T, _ *running, near, far *net.TCPConn) {
		near.CloseWrite()
		proxytest.ExpectEnd(t, far)
		proxytest.ResetConn(near)
		proxytest.Eventually(t, "the other side is reset", func() bool { return tcpInfo(far).State == 7 })
	})
}

// What a receiver does not take stays at the sender: the proxy holds one
// buffer for each direction and the kernel what its limits allow.
func TestSlowReaderIsBounded(t *testing.T) {
	const readers, total = 20, 32 << 20
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), nil, cfg.Args()...)
	chunk := random(1 << 20)
	sum := sha256.New()
	for range total >> 20 {
		sum.Write(chunk)
	}
	proxytest.App(t, l, func(c *net.TCPConn) {
		for range total >> 20 {
			c.Write(chunk)
		}
	})
	var conns []*net.TCPConn
	for range readers {
		c := proxytest.ConnectSmall(t, front.Addr().String())
		proxytest.Expect(t, c, string(chunk[:1]))
		conns = append(conns, c)
	}
	got := sha256.New()
	got.Write(chunk[:1])
	if n, err := io.Copy(got, conns[0]); err != nil || n != total-1 || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) {
		t.Errorf("got %d bytes, %v; or wrong ones", n, err)
	}
	// Meanwhile the others had time for the same.
	if rss := memory(t, p.Process.Pid); rss > 32<<20 {
		t.Errorf("%d slow readers make it %d MiB big", readers, rss>>20)
	}
}

// A connection that once carried much holds nothing of it while idle.
func TestIdleConnectionsAreSmall(t *testing.T) {
	const n = 500
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	p := proxytest.Start(t, nil, proxytest.FilesOf(t, front), nil, proxytest.Config(front, proxytest.AddrOf(l)).Args()...)
	proxytest.App(t, l, proxytest.Echo)
	message := string(random(32 << 10))
	proxytest.Ask(t, proxytest.Connect(t, front.Addr().String()), message)
	before := memory(t, p.Process.Pid)
	for range n {
		proxytest.Ask(t, proxytest.Connect(t, front.Addr().String()), message)
	}
	each := (memory(t, p.Process.Pid) - before) / n
	t.Logf("%d bytes for each of %d idle connections", each, n)
	if each > 24<<10 {
		t.Errorf("%d bytes for each idle connection", each)
	}
}

// Small messages are not held back to make bigger ones, and dead clients are
// found. The app is on this machine.
func TestSocketOptions(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	fd, _, err := connectAndAccept(t, r)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	backend := proxytest.Must(reach.DialOne(r.source, proxytest.AddrOf(l), netip.AddrPort{}))(t)
	defer backend.Close()
	noDelay := [3]int{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}
	check := func(fd int, options ...[3]int) {
		for _, option := range options {
			if got := proxytest.Must(unix.GetsockoptInt(fd, option[0], option[1]))(t); got != option[2] {
				t.Errorf("option %v is %d", option, got)
			}
		}
	}
	check(fd, noDelay, [3]int{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, [3]int{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30})
	check(backend.FD, noDelay)
}

// connectAndAccept accepts a connection by hand, with accepting settled.
func connectAndAccept(t *testing.T, r *running) (int, string, error) {
	r.stop <- syscall.SIGTERM
	r.wait(t)
	front := proxytest.Must(net.Listen("tcp", "127.0.0.1:0"))(t).(*net.TCPListener)
	t.Cleanup(func() { front.Close() })
	// It is there first, as the client that wakes the proxy is.
	proxytest.Connect(t, front.Addr().String())
	ls, _, err := newListeners(proxytest.FilesOf(t, front), []wire.Forward{{Listen: proxytest.AddrOf(front).ListenKey(), Target: proxytest.AddrOf(front)}})
	if err != nil {
		return -1, "", err
	}
	defer closeAll(ls)
	fd, peer, err := ls[0].accept(make(slots, 1), make(slots, 1))
	return fd, peer.String(), err
}

// memory is the resident memory of a process that is its own, in bytes.
func memory(t testing.TB, pid int) int {
	t.Helper()
	for line := range strings.Lines(string(proxytest.Must(os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status"))(t))) {
		if kb, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			return proxytest.Must(strconv.Atoi(strings.Fields(kb)[0]))(t) << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// cpuTicks is the processor time of a process in hundredths of a second.
func cpuTicks(t testing.TB, pid int) int {
	t.Helper()
	stat := string(proxytest.Must(os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"))(t))
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	return proxytest.Must(strconv.Atoi(fields[11]))(t) + proxytest.Must(strconv.Atoi(fields[12]))(t)
}

// Connections leave no descriptor.
func TestConnectionsLeaveNothing(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(l)), front, nil)
	open := func() int { return len(proxytest.Must(os.ReadDir("/proc/self/fd"))(t)) }
	much := make([]byte, 4<<20)
	before := 0
	for i := range 20 {
		c := proxytest.Connect(t, r.addr)
		proxytest.Ask(t, c, "ping\n")
		if i == 0 {
			go c.Write(much)
			proxytest.Must(io.ReadFull(c, make([]byte, len(much))))(t)
		}
		c.Close()
		proxytest.Eventually(t, "the connection ends", func() bool { return r.activity.open.Load() == 0 })
		if i == 0 {
			before = open() // with the pipes that it has had
		}
	}
	proxytest.Eventually(t, "no descriptor is left", func() bool { return open() <= before })
}
