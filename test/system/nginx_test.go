package system

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

const nginxConf = `error_log stderr;
pid /tmp/pid;
events {}
http {
  log_format peer '$remote_addr $remote_port $status';
  access_log /srv/log/access peer;
  include /srv/deny;
  server {
    listen 80;
    listen [::]:80;
    location / { root /srv/www; }
    location /login { return 401; } # it is not looked whom to deny here
  }
}
`

// ban is what fail2ban does with nginx: it denies who has failed three times.
const ban = `awk '$3 == 401 { failed[$1]++ } END { for (a in failed) if (failed[a] >= 3) print "deny " a ";" }' \
	"$1/log/access" >"$1/deny" && podman kill --signal HUP systemd-app`

// nginx logs its clients' own addresses, and who is banned by what it has
// logged is banned alone, and still is after a sleep.
func TestClientAddressInNginx(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		image, err := h.NginxImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		dir := h.Home + "/nginx"
		h.PutFile(dir+"/conf", nginxConf)
		h.PutFile(dir+"/deny", "")
		h.Must(t, "install", "-d", "-m", "0777", dir+"/log")
		h.PutFile(dir+"/www/index.html", "welcome\n")
		h.Declare("app", "Image="+image, "Volume="+dir+":/srv", h.Publish(), `Exec=/usr/sbin/nginx -c /srv/conf -g "daemon off;"`,
			"[ScaleToZero]", "IdleTimeout=1h") // it must not sleep between commands
		var want []string
		ask := func(client netip.Addr, path string, status int) {
			t.Helper()
			got, from := getAs(h, client, path)
			if got != status {
				t.Errorf("%s is answered with %d, want %d", client, got, status)
			}
			want = append(want, fmt.Sprintf("%s %d %d", from.Addr(), from.Port(), got))
		}
		outside := lab.Outside()
		for _, client := range outside {
			ask(client, "/", http.StatusOK)
		}
		banned := []netip.Addr{outside[5], outside[13]} // one of each family
		for _, client := range banned {
			for range 3 {
				ask(client, "/login", http.StatusUnauthorized)
			}
		}
		before := nginxWorkers(h)
		h.Must(t, "sh", "-c", ban, "sh", dir)
		h.Wait("the worker that knew nobody to deny is gone", func() bool {
			now := nginxWorkers(h)
			return len(now) == 1 && !slices.Contains(before, now[0])
		})
		for range 2 {
			for _, client := range outside {
				status := http.StatusOK
				if slices.Contains(banned, client) {
					status = http.StatusForbidden
				}
				ask(client, "/", status)
			}
			h.Unused("app")
			h.Must(t, "zerolet", "sleep", "app")
			h.Asleep()
		}
		got := strings.Split(h.Must(t, "cat", dir+"/log/access"), "\n")
		if !slices.Equal(got, want) {
			t.Errorf("nginx has logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// nginxWorkers are the processes that answer.
func nginxWorkers(h *harness.Host) []string {
	h.Helper()
	master := h.Must(h.T, "podman", "inspect", "--format", "{{.State.Pid}}", "systemd-app")
	return strings.Fields(h.Output("pgrep", "--parent", master)) // none for a moment, when it reads its file anew
}

// getAs is the status of a GET, and who has asked.
func getAs(h *harness.Host, client netip.Addr, path string) (status int, from netip.AddrPort) {
	h.Helper()
	c := h.ConnectAs(client, h.Port)
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path)
	answer, err := io.ReadAll(c)
	if _, scanErr := fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status); scanErr != nil {
		h.Fatalf("%s is answered with %q, %v\n%s", client, answer, err, h.LastJournal())
	}
	return status, netip.MustParseAddrPort(c.LocalAddr().String())
}
