package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestAllowed(t *testing.T) {
	some := prefixes("192.0.2.0/24", "fe80::/64", "::1/128")
	for peer, want := range map[string]bool{
		"192.0.2.7:1": true, "192.0.3.7:1": false, "[::1]:1": true, "[::2]:1": false, "[fe80::1%eth0]:1": true, "udp:192.0.2.1:5": true,
		"unix:/run/x": true,
	} {
		if got := allowed(some, proxytest.ParseAddress(t, peer)); got != want {
			t.Errorf("%s: %t", peer, got)
		}
	}
}

// Who is denied is reset, counts for nothing and does not have the container
// started; the first who is allowed does, and waits for it.
func TestDeniedClient(t *testing.T) {
	bin := t.TempDir()
	asked, started := filepath.Join(bin, "asked"), filepath.Join(bin, "started")
	script := "#!/bin/sh\necho \"$@\" >>" + asked + "\ntest -e " + started + " || { echo not yet; exit 1; }\n"
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))

	front, l := proxytest.ListenTCP(t, "[::]:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.AllowFrom, cfg.Start, cfg.MaxConnections = prefixes("127.0.0.2/32"), "-web-wake.target", 1
	r := serve(t, cfg, front, nil)
	to := net.JoinHostPort("127.0.0.1", proxytest.Itoa(proxytest.AddrOf(front).IP.Port()))
	for range 3 {
		c, err := net.DialTimeout("tcp", to, proxytest.Patience)
		if err == nil {
			c.SetDeadline(time.Now().Add(proxytest.Patience))
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("denied: %v, want a reset", err)
		}
	}
	if _, err := os.Stat(asked); err == nil {
		t.Error("the container was started for who is denied")
	}
	d := net.Dialer{Timeout: proxytest.Patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c := proxytest.Must(d.DialContext(t.Context(), "tcp", to))(t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(proxytest.Patience))
	proxytest.Eventually(t, "its failure is told", func() bool { return strings.Contains(r.log.String(), "cannot start -web-wake.target: not yet") })
	if n := r.activity.open.Load(); n != 1 {
		t.Errorf("%d connections are open", n)
	}
	if err := os.WriteFile(started, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	proxytest.Ask(t, c, "ping")
	if n := r.activity.accepted.Load(); n != 1 {
		t.Errorf("%d were accepted", n)
	}
	if text := string(proxytest.Must(os.ReadFile(asked))(t)); !strings.HasPrefix(text, "--user start -- -web-wake.target\n") {
		t.Error(text)
	}
}

// The start timeout counts from the accept, and who leaves is gone, while the
// manager is asked and does not answer.
func TestStartThatHangs(t *testing.T) {
	bin := t.TempDir()
	never := filepath.Join(bin, "never")
	proxytest.Must(0, errors.Join(unix.Mkfifo(never, 0o600),
		os.WriteFile(filepath.Join(bin, "systemctl"), []byte("#!/bin/sh\nread line <"+never+"\n"), 0o755)))(t)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for _, timeout := range []time.Duration{300 * time.Millisecond, wire.Infinity} {
		front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
		proxytest.App(t, l, proxytest.Echo)
		cfg := proxytest.Config(front, proxytest.AddrOf(l))
		cfg.StartTimeout, cfg.Start = timeout, "web-wake.target"
		r := serve(t, cfg, front, nil)
		c := proxytest.Connect(t, r.addr)
		proxytest.Eventually(t, "the client is held", func() bool { return r.activity.accepted.Load() == 1 })
		if timeout == wire.Infinity {
			proxytest.ResetConn(c)
		} else if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want a reset after %s", err, timeout)
		}
		proxytest.Eventually(t, "the client is counted out", func() bool { return r.activity.open.Load() == 0 })
	}
}
