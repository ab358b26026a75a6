package proxy

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
)

// The data path against a direct connection, for small messages and for bulk, and
// where the proxy looks at what clients say first. Both ends are in this process, so
// the ratio says more than the number.
func BenchmarkForward(b *testing.B) {
	for _, way := range []string{"direct", "proxy", "heard"} {
		open := func(b *testing.B, serve func(*net.TCPConn)) func() *net.TCPConn {
			l := proxytest.ListenTCP(b, "127.0.0.1:0")
			proxytest.App(b, l, serve)
			addr := l.Addr().String()
			if way != "direct" {
				front := proxytest.ListenTCP(b, "127.0.0.1:0")
				cfg := proxytest.Config(front, proxytest.AddrOf(l))
				if way == "heard" {
					cfg.ByData, cfg.Probes, cfg.IgnoreAgents = true, []string{"/healthz"}, []string{"*robot*"}
					cfg.Start, _ = newWaker(b)
				}
				p := proxytest.Start(b, nil, proxytest.FilesOf(b, front), nil, cfg.Args()...)
				addr = front.Addr().String()
				b.Cleanup(func() { b.ReportMetric(used(b, p)/float64(b.N), "proxy-ns/op") })
			}
			return func() *net.TCPConn {
				c := proxytest.Must(net.Dial("tcp", addr))(b).(*net.TCPConn)
				return c
			}
		}
		b.Run("messages/"+way, func(b *testing.B) { benchmarkMessages(b, open(b, proxytest.Echo)) })
		b.Run("connections/"+way, func(b *testing.B) { benchmarkConnections(b, open(b, proxytest.Echo)) })
		b.Run("bulk/"+way, func(b *testing.B) { benchmarkBulk(b, open) })
	}
}

// used is the processor time of the proxy, in nanoseconds (proc_pid_stat(5)).
func used(b *testing.B, p *proxytest.Process) float64 {
	b.Helper()
	text := string(proxytest.Must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid)))(b))
	fields := strings.Fields(text[strings.LastIndex(text, ")"):])
	user := proxytest.Must(strconv.Atoi(fields[12]))(b)
	system := proxytest.Must(strconv.Atoi(fields[13]))(b)
	const tick = time.Second / 100 // USER_HZ
	return float64(time.Duration(user+system) * tick)
}

// benchmarkMessages is 100 bytes there and back, on connections that stay.
func benchmarkMessages(b *testing.B, open func() *net.TCPConn) {
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		c := open()
		defer c.Close()
		buf := make([]byte, 100)
		for pb.Next() {
			c.Write(buf)
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// benchmarkConnections is a connection for each 100 bytes.
func benchmarkConnections(b *testing.B, open func() *net.TCPConn) {
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 100)
		for pb.Next() {
			c := open()
			c.Write(buf)
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Error(err)
			}
			c.SetLinger(0) // leaves no TIME_WAIT behind
			c.Close()
		}
	})
}

// benchmarkBulk is a download.
func benchmarkBulk(b *testing.B, open func(*testing.B, func(*net.TCPConn)) func() *net.TCPConn) {
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	n := b.N
	c := open(b, func(c *net.TCPConn) {
		for range n {
			c.Write(chunk)
		}
	})()
	defer c.Close()
	b.ResetTimer()
	for range n {
		if _, err := io.ReadFull(c, chunk); err != nil {
			b.Fatal(err)
		}
	}
}

// A datagram there and back, of many clients.
func BenchmarkDatagrams(b *testing.B) {
	for _, way := range []string{"direct", "proxy"} {
		b.Run(way, func(b *testing.B) {
			app := echoUDP(b, "127.0.0.1:0")
			addr := app.LocalAddr().String()
			if way == "proxy" {
				front := listenUDP(b, "udp", "127.0.0.1:0")
				proxytest.Start(b, nil, proxytest.FilesOf(b, front), nil, udpConfig(front, udpAddr(app.UDPConn)).Args()...)
				addr = front.LocalAddr().String()
			}
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				c := proxytest.Must(net.Dial("udp", addr))(b)
				defer c.Close()
				buf := make([]byte, 100)
				for pb.Next() {
					c.Write(buf)
					c.Read(buf)
				}
			})
		})
	}
}
