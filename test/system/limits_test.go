package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// dialFrom connects to the endpoint from an address of the machine.
func dialFrom(h *harness.Host, source string, limit time.Duration) (conn net.Conn, err error) {
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
	err = h.M.Network(func() (err error) {
		d := net.Dialer{Timeout: limit, LocalAddr: from}
		conn, err = d.DialContext(h.Context(), "tcp", h.Addr())
		return err
	})
	return conn, err
}

// Who is not allowed wakes nothing: neither at first, nor while the container
// is up, nor after it has been. The system's kernel drops what they send, the
// user's proxy resets them.
func TestAllowFrom(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "AllowFrom=127.0.0.1 ::/127")
		limit := time.Second // of what must not happen
		if h.UserManager {
			limit = harness.Patience
		}
		denied := func() {
			t.Helper()
			for _, source := range []string{"127.0.0.2", "127.0.0.3"} {
				c, err := dialFrom(h, source, limit)
				if h.UserManager && err == nil {
					c.SetDeadline(time.Now().Add(harness.Patience))
					_, err = c.Read(make([]byte, 1))
				}
				want := h.UserManager && errors.Is(err, syscall.ECONNRESET) || !h.UserManager && os.IsTimeout(err)
				if !want {
					t.Errorf("from %s: %v", source, err)
				}
			}
		}
		starts := func() string { t.Helper(); return h.Property("app.service", "InvocationID") }
		before := starts()
		denied()
		if !h.UserManager {
			h.Expect("app-proxy.service", "inactive")
		}
		h.Expect("app.service", "inactive")
		h.Asleep()
		if after := starts(); after != before {
			t.Errorf("the container was started for who is denied: %s, %s", before, after)
		}
		h.MustGet()
		denied()
		h.Asleep()
		before = starts()
		denied()
		h.Asleep()
		if after := starts(); after != before {
			t.Errorf("the container was started for who is denied, once it had slept: %s, %s", before, after)
		}
		c, err := h.M.Dial(t.Context(), "tcp", fmt.Sprintf("[::1]:%d", h.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		if text, err := io.ReadAll(c); !strings.HasPrefix(string(text), "HTTP/1.0 200") {
			t.Errorf("%q, %v", text, err)
		}
		c.Close()
		h.Asleep()
	})
}

// The same of datagrams, which nobody resets, and of a socket for both
// families, where a client of IPv4 has an IPv4-mapped address: it is IPv4's
// prefix that counts, even if that is written as mapped.
func TestAllowFromDatagrams(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -udp :80", h.Publish(), h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1s", "AllowFrom=::ffff:127.0.0.0/127 fd00::/8")
		others := []harness.UDPClient{h.DialUDPFrom("127.0.0.2", "127.0.0.1", h.Port), h.DialUDPFrom("::1", "::1", h.Port)}
		started := "app.service"
		if !h.UserManager {
			started = "app-proxy.service"
		}
		denied := func(when string) {
			t.Helper()
			before := h.Property(started, "InvocationID")
			for _, c := range others {
				c.Say("denied")
			}
			for _, c := range others {
				if text, err := c.HearWithin(time.Second); !os.IsTimeout(err) { // of what must not happen
					t.Errorf("%s: %s was told %q, %v", when, c.LocalAddr(), text, err)
				}
			}
			if after := h.Property(started, "InvocationID"); after != before {
				t.Errorf("%s: %s was started for who is denied", when, started)
			}
		}
		denied("at first")
		h.Asleep()
		allowed := h.DialUDP("127.0.0.1", h.Port)
		allowed.Say("cold")
		allowed.Tallied("cold")
		c := h.Connect() // keeps it awake
		allowed.Say("warm")
		first, number := allowed.Tallied("warm")
		denied("awake")
		allowed.Say("again")
		if id, next := allowed.Tallied("again"); id != first || next != after(number) {
			t.Errorf("the next datagram was number %s of %s, the last one %s of %s", next, id, number, first)
		}
		if id := strings.TrimSpace(h.MustGet()); id != first {
			t.Errorf("TCP was answered by %s, UDP by %s", id, first)
		}
		c.Close()
		h.Asleep()
		denied("asleep")
		h.Asleep()
	})
}

// after is the next number.
func after(number string) string {
	n, _ := strconv.Atoi(number) // 0 is the last one of no number
	return strconv.Itoa(n + 1)
}

// Clients beyond MaxConnections= wait, and all are served.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-tally :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "MaxConnections=2")
		clients := make([]net.Conn, 300)
		for i := range clients {
			clients[i] = h.Connect() // and nobody is served, so nobody leaves, before all are there
		}
		var all sync.WaitGroup
		for i, c := range clients {
			all.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(harness.Patience))
				fmt.Fprintln(c, i)
				line := make([]byte, 64)
				if n, err := c.Read(line); err != nil || !strings.HasSuffix(string(line[:n]), fmt.Sprintf(" %d\n", i)) {
					t.Errorf("client %d: %q, %v", i, line[:n], err)
				}
			})
		}
		all.Wait()
		h.Wait("the journal tells that others waited", func() bool {
			text, err := h.Journal(t.Context(), "app-proxy.service")
			return err == nil && strings.Contains(text, "2 connections open, no more are allowed")
		}, "app-proxy.service")
		h.Asleep()
	})
}

// A connection that is only open does not keep the container up, one with
// traffic does.
func TestConnectionIdleTimeout(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-tick :80 -greet :81", h.Publish(), fmt.Sprintf("PublishPort=%d:81", h.Port+1000),
			"[ScaleToZero]", "IdleTimeout=1s", "ConnectionIdleTimeout=5s")
		c, silent := h.Connect(), h.ConnectTo(h.Port+1000)
		for _, c := range []net.Conn{c, silent} {
			if _, err := c.Read(make([]byte, 64)); err != nil {
				t.Fatal(err)
			}
		}
		// The app has something to say all the time, however slow this test is.
		h.Wait("the one without traffic is told as silent", func() bool {
			return strings.HasPrefix(h.Property("app-proxy.service", "StatusText"), "2 connections open (1 silent)")
		}, "app-proxy.service")
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatalf("the connection with traffic: %v", err)
		}
		h.Asleep()
		for name, c := range map[string]net.Conn{"silent": silent, "now silent": c} {
			if rest, err := io.ReadAll(c); err != nil || strings.Trim(string(rest), ".") != "" {
				t.Errorf("%s: %q, %v, want an end in order", name, rest, err)
			}
		}
	})
}

// No client's byte reaches an app that accepts but is not ready, neither at
// first nor when its container has been replaced meanwhile.
func TestReadyCheck(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		dir := h.Home + "/ready"
		h.Must(t, "mkdir", "-p", dir)
		h.App("app", "-http :80 -ready /ready/ok", h.Publish(), "Volume="+dir+":/ready",
			"[ScaleToZero]", "IdleTimeout=1s", "ReadyCheck=http:/ready")
		for _, wake := range []func(){func() {}, func() {
			// Killed while a client is there, it comes back at once.
			c := h.Connect()
			ask(h, c) // it is through
			fmt.Fprint(c, "GET /sleep?for=1h HTTP/1.0\r\n\r\n")
			h.Must(t, "rm", dir+"/ok")
			before := h.Property("app.service", "InvocationID")
			h.Must(t, "podman", "kill", "systemd-app")
			c.Close()
			held := h.Connect() // the idle time may be over before the container is back
			defer held.Close()
			h.Wait("the container is another", func() bool {
				return h.State("app.service") == "active" && h.Property("app.service", "InvocationID") != before
			}, "app.service")
		}} {
			wake()
			ctx, cancel := context.WithTimeout(t.Context(), harness.Patience)
			defer cancel()
			answer := make(chan error, 1)
			go func() {
				_, err := h.Request(ctx, "/")
				answer <- err
			}()
			h.Wait("the app says that it is not ready", func() bool {
				out, err := h.Session.Run(t.Context(), "podman", "logs", "systemd-app")
				return err == nil && strings.Contains(out.Stdout, "not ready")
			}, "app.service")
			select {
			case err := <-answer:
				t.Fatalf("the client was let through: %v", err)
			default:
			}
			h.Must(t, "touch", dir+"/ok")
			if err := <-answer; err != nil {
				t.Errorf("the client was not answered: %v", err)
			}
			out, err := h.Session.Run(t.Context(), "podman", "logs", "systemd-app")
			if err == nil && strings.Contains(out.Stdout, "too early") {
				t.Errorf("a client came before the app was ready: %s", out.Stdout)
			}
		}
		h.Asleep()
		if _, err := os.Lstat(h.M.Host(h.RuntimeDir + "/app.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the pid file is left: %v", err)
		}
	})
}

// StartTimeout= counts from the accept while the proxy waits for a manager that
// does not answer. A client who is denied has started it, without the container.
func TestAllowedClientOfManagerThatHangs(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		if !h.UserManager {
			t.Skip("the system's manager starts the container by itself")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "StartTimeout=3s", "AllowFrom=127.0.0.2")
		h.Connect()
		h.WaitState("app-proxy.service", "active")
		root := h.M.Root()
		manager := root.Must(t, "systemctl", "show", "--property=MainPID", "--value", "user@1000.service")
		root.Must(t, "kill", "-STOP", manager)
		defer func() { root.Must(t, "kill", "-CONT", manager) }()
		var late net.Conn
		err := h.M.Network(func() (err error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
			late, err = d.DialContext(t.Context(), "tcp", h.Addr())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer late.Close()
		_ = late.SetReadDeadline(time.Now().Add(harness.Patience))
		if _, err := late.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, want a reset", err)
		}
	})
}
