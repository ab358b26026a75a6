package system

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// eachClient runs a test of what the app sees of clients from outside.
func eachClient(t *testing.T, test func(t *testing.T, h *harness.Host)) {
	t.Helper()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), test)
}

// The app sees each client with its own address and port, by TCP and UDP, of
// IPv4 and IPv6, in each kind of network and user namespace. Those on the
// machine itself are somebody else to it than who is in the container.
func TestClientAddress(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		h.PutFile("named.network", "[Network]\n")
		h.PutFile("dual.network", "[Network]\nIPv6=true\n")
		cases := []string{"Network=bridge", "Network=named.network", "Network=dual.network", "Network=none", "User=1234"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap",
				"Network=dual.network\nUserNS=keep-id", "Network=none\nUserNS=nomap")
		}
		for _, setting := range cases {
			for _, listen := range []string{"[::]", "127.0.0.1 [::1]"} {
				t.Run(strings.ReplaceAll(setting, "\n", ",")+","+listen, func(t *testing.T) {
					h := *h
					h.T = t
					var exec []string
					for address := range strings.FieldsSeq(listen) {
						exec = append(exec, fmt.Sprintf("-peer %s:1080 -udp-peer %[1]s:1080", address))
					}
					h.App("app", strings.Join(exec, " "), setting, fmt.Sprintf("PublishPort=%d:1080", h.Port),
						fmt.Sprintf("PublishPort=%d:1080/udp", h.Port), "[ScaleToZero]", "IdleTimeout=1s")
					for _, client := range lab.Outside() {
						seenAsItself(&h, client)
					}
					v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
					for _, client := range []netip.Addr{v4, v6, lab.Uplink(v4), lab.Uplink(v6)} {
						seenAsForeign(&h, client)
					}
					h.Asleep()
				})
			}
		}
	})
}

func seenAsItself(h *harness.Host, client netip.Addr) {
	h.Helper()
	c := h.ConnectAs(client, h.Port)
	defer c.Close()
	if seen := told(h, c); seen != c.LocalAddr().String() {
		h.Errorf("the app takes %s for %s", c.LocalAddr(), seen)
	}
	u := h.DialUDPAs(client, h.Port)
	defer u.Close()
	for range 2 {
		u.Say("who am I?")
		if seen := u.Hear(); seen != u.LocalAddr().String() {
			h.Errorf("the app takes %s for %s, by UDP", u.LocalAddr(), seen)
		}
	}
}

func seenAsForeign(h *harness.Host, client netip.Addr) {
	h.Helper()
	c := h.ConnectAs(client, h.Port)
	defer c.Close()
	u := h.DialUDPAs(client, h.Port)
	defer u.Close()
	u.Say("who am I?")
	for kind, text := range map[string]string{"TCP": told(h, c), "UDP": u.Hear()} {
		if seen, err := netip.ParseAddrPort(text); err != nil || seen.Addr().IsLoopback() {
			h.Errorf("the app takes %s for %s, by %s", client, text, kind)
		}
	}
}

// told is what the app says to a client that has just connected.
func told(h *harness.Host, c net.Conn) string {
	h.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		h.Fatalf("%v\n%s", err, h.LastJournal())
	}
	return strings.TrimSpace(line)
}

// ClientAddress=proxy and the PROXY protocol leave the container's own address,
// and a client whose address the app cannot see is told of once.
func TestClientAddressHidden(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		client := lab.Outside()[0]
		for _, key := range []string{"ClientAddress=proxy", "ProxyProtocol=v1"} {
			h.App("app", "-peer :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", key)
			c := h.ConnectAs(client, h.Port)
			seen := netip.MustParseAddrPort(told(h, c)).Addr()
			c.Close()
			if seen == client || seen.IsLoopback() {
				t.Errorf("with %s the app takes %s for %s", key, client, seen)
			}
			h.Asleep()
		}
		h.App("app", "-peer 127.0.0.1:80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for _, client := range lab.Outside() {
			c := h.ConnectAs(client, h.Port)
			_ = told(h, c)
			c.Close()
		}
		h.Asleep()
		journal, err := h.Journal(t.Context(), "")
		if n := strings.Count(journal, "as its client: it does not listen on ::1"); err != nil || n != 1 {
			t.Errorf("said %d times, %v:\n%s", n, err, journal)
		}
	})
}

const nginxConf = `
error_log stderr;
pid /tmp/pid;
events {}
http {
  log_format who "who $remote_addr $remote_port";
  access_log /dev/stdout who;
  server {
    listen 80;
    listen [::]:80;
    deny 192.0.2.12;
    deny 2001:db8:1::12;
    location / { root /conf; index conf; add_header Who "$remote_addr $remote_port"; }
  }
}
`

// What is made of addresses holds behind zerolet: nginx' access log has them,
// and it turns away whom it is told to, as fail2ban has it do.
func TestClientAddressInNginx(t *testing.T) {
	eachClient(t, func(t *testing.T, h *harness.Host) {
		if _, err := h.NginxImage(t.Context()); err != nil {
			t.Fatal(err)
		}
		dir := h.Home + "/nginx"
		h.PutFile(dir+"/conf", nginxConf)
		h.Declare("app", "Image=localhost/nginx", "Exec=/usr/sbin/nginx -c /conf/conf -g 'daemon off;'", "Volume="+dir+":/conf", h.Publish(),
			"[ScaleToZero]", "IdleTimeout=1s")
		banned := []string{"192.0.2.12", "2001:db8:1::12"}
		for _, client := range lab.Outside() {
			c := h.ConnectAs(client, h.Port)
			fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
			answer, err := io.ReadAll(c)
			from := c.LocalAddr().(*net.TCPAddr)
			who := fmt.Sprintf("%s %d", from.IP, from.Port)
			want := " 200 OK"
			if client.String() == banned[0] || client.String() == banned[1] {
				want = " 403 Forbidden"
			} else if !strings.Contains(string(answer), "\r\nWho: "+who+"\r\n") {
				t.Errorf("nginx takes %s for %s", who, answer)
			}
			if err != nil || !strings.Contains(string(answer), want) {
				t.Errorf("%s: %q, %v, want%s", client, answer, err, want)
			}
			h.Wait("the log has "+who, func() bool {
				journal, err := h.Journal(t.Context(), "app.service")
				return err == nil && strings.Contains(journal, "who "+who)
			}, "app.service")
		}
	})
}
