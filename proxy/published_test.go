package proxy

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A published port is a NAT rule. Who listens on it in the host's namespace,
// as Podman does before the rule is there, is never taken for the app.
func TestPublishedPortIsNotOfTheHost(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		front, squatter := listenTCP(t, host), listenTCP(t, host)
		told := make(chan string, 1)
		app(t, squatter, func(c *net.TCPConn) {
			if b, _ := io.ReadAll(c); len(b) > 0 {
				told <- string(b)
			}
		})
		cfg := config(front, addrOf(squatter))
		cfg.Published, cfg.StartTimeout = true, 200*time.Millisecond
		r := serve(t, cfg, front, nil)
		c := connect(t, r.addr)
		io.WriteString(c, "secret")
		expectReset(t, c)
		eventually(t, "the journal says why", func() bool { return strings.Contains(r.log.String(), "not the container") })
		select {
		case s := <-told:
			t.Errorf("the squatter was told %q", s)
		default:
		}
	}
}

// The lookup tells a connection from a listening socket and from nothing.
func TestPublishedPortState(t *testing.T) {
	front := listenTCP(t, "127.0.0.1:0")
	cfg := config(front, freeAddr(t))
	cfg.Published = true
	p := serve(t, cfg, front, nil).source.(*published)
	if _, known, err := p.diag.find(endpoints{TCP, false, freeAddr(t).IP, freeAddr(t).IP}); known || err != nil {
		t.Errorf("nobody's address: known %v, %v", known, err)
	}
	const listening = 10 // TCP_LISTEN
	if s, known, err := p.diag.find(endpoints{TCP, false, addrOf(front).IP, freeAddr(t).IP}); s.state != listening || !known || err != nil {
		t.Errorf("a listening socket: state %d, known %v, %v", s.state, known, err)
	}
}
