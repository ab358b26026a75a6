package system

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// receivers answer with the client that the PROXY protocol told them of.
func receivers() map[string]struct{ command, stop, conf string } {
	return map[string]struct{ command, stop, conf string }{
		"haproxy": {`CMD ["/usr/sbin/haproxy", "-f", "/conf/conf"]`, "SIGUSR1", `
defaults
  mode http
  timeout client 1m
  timeout server 1m
  timeout connect 1m
frontend f
  bind :80 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port]"
`},
		"nginx": {`CMD ["/usr/sbin/nginx", "-c", "/conf/conf", "-g", "daemon off;"]`, "SIGTERM", `
error_log stderr;
pid /tmp/pid;
events {}
http {
  access_log off;
  server {
    listen 80 proxy_protocol;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port"; }
  }
}
`},
	}
}

// HAProxy and nginx understand what is told of clients, in both versions, over
// IPv4, IPv6 and from a unix socket, and the questions whether they are ready.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for name, receiver := range receivers() {
			if err := h.DebianImage(t.Context(), "localhost/"+name, []string{name}, receiver.command); err != nil {
				t.Fatal(err)
			}
			dir := h.Home + "/" + name
			h.PutFile(dir+"/conf", receiver.conf)
			for _, version := range []string{"v1", "v2"} {
				h.Declare("app", "Image=localhost/"+name, "Volume="+dir+":/conf", "StopSignal="+receiver.stop, "[ScaleToZero]", "IdleTimeout=1s",
					"ProxyProtocol="+version, "ReadyCheck=http:/", fmt.Sprintf("Listen=%d:80", h.Port), "Listen=%t/app.sock:80")
				for network, to := range map[string]string{
					"IPv4": h.Addr(), "IPv6": fmt.Sprintf("[::1]:%d", h.Port), "unix": h.RuntimeDir + "/app.sock",
				} {
					kind := "tcp"
					if network == "unix" {
						kind = "unix"
					}
					c, err := h.M.Dial(t.Context(), kind, to)
					if err != nil {
						t.Fatal(err)
					}
					c.SetDeadline(time.Now().Add(harness.Patience))
					fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
					answer, err := io.ReadAll(c)
					want := ""
					if from, ok := c.LocalAddr().(*net.TCPAddr); ok {
						want = fmt.Sprintf("%s %d", from.IP, from.Port)
					}
					if err != nil || !strings.Contains(string(answer), " 200 ") || !strings.HasSuffix(string(answer), want) {
						t.Errorf("%s, %s, %s: %q, %v, want %q", name, version, network, answer, err, want)
					}
					c.Close()
				}
				h.Asleep()
			}
		}
	})
}
