package proxy

import (
	"encoding/hex"
	"io"
	"net"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// The examples' bytes are written by hand after doc/proxy-protocol.txt of HAProxy.
func TestProxyHeader(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	v4 := [2]wire.Address{proxytest.ParseAddress(t, "192.0.2.1:40000"), proxytest.ParseAddress(t, "198.51.100.2:80")}
	v6 := [2]wire.Address{proxytest.ParseAddress(t, "[2001:db8::1%eth0]:40000"), proxytest.ParseAddress(t, "[2001:db8::2]:80")}
	local := [2]wire.Address{{Network: wire.Unix}, {Network: wire.Unix, Path: "/run/w"}}
	for _, test := range []struct {
		ends   [2]wire.Address
		v1, v2 string
	}{
		{v4, "PROXY TCP4 192.0.2.1 198.51.100.2 40000 80\r\n", "2111000c" + "c0000201" + "c6336402" + "9c40" + "0050"},
		{
			v6, "PROXY TCP6 2001:db8::1 2001:db8::2 40000 80\r\n",
			"21210024" + "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "9c40" + "0050",
		},
		{local, "PROXY UNKNOWN\r\n", "20000000"},
		{[2]wire.Address{}, "PROXY UNKNOWN\r\n", "20000000"},
	} {
		if got := string(proxyHeader(1, test.ends[0], test.ends[1])); got != test.v1 {
			t.Errorf("v1: %q, want %q", got, test.v1)
		}
		if got := hex.EncodeToString(proxyHeader(2, test.ends[0], test.ends[1])); got != signature+test.v2 {
			t.Errorf("v2: %s, want %s", got, signature+test.v2)
		}
	}
}

// The app learns of the client before the client's bytes, also if it is the
// second backend. A socket for both families tells of IPv4 as IPv4.
func TestProxyHeaderIsFirst(t *testing.T) {
	front, back := proxytest.ListenTCP(t, "[::]:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	cfg := proxytest.Config(front, proxytest.AddrOf(back))
	cfg.ProxyProtocol = 1
	serve(t, cfg, front, func(s *server) { s.resetGrace = time.Second })
	to := net.JoinHostPort("127.0.0.1", proxytest.Itoa(proxytest.AddrOf(front).IP.Port()))
	c := proxytest.Connect(t, to)
	io.WriteString(c, "ping")
	proxytest.ResetConn(proxytest.Must(back.Accept())(t).(*net.TCPConn))
	backend := proxytest.Must(back.Accept())(t)
	defer backend.Close()
	from := proxytest.ParseAddress(t, c.LocalAddr().String())
	proxytest.Expect(t, backend, string(proxyHeader(1, from, proxytest.ParseAddress(t, to)))+"ping")
	io.WriteString(backend, "pong")
	proxytest.Expect(t, c, "pong")
}
