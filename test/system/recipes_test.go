package system

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Each way to a service behind a reverse proxy that docs/recipes.md has, with Debian's
// own servers in a container: the first request wakes the service, it goes to sleep
// though the reverse proxy runs on, and the next one wakes it again.
func TestBehindReverseProxy(t *testing.T) {
	t.Parallel()
	doc := read(t, "../../docs/recipes.md")
	blocks := func(language string) []string {
		var texts []string
		for _, match := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(doc, -1) {
			texts = append(texts, match[1])
		}
		return texts
	}
	named, bySocket, onHost := blocks("ini")[0], blocks("ini")[1], blocks("ini")[2]
	caddy, haproxy, nginx := blocks("caddyfile")[0], blocks("haproxy")[0], blocks("nginx")
	http := func(server string) string { return "events {}\nhttp {\n" + server + "}\n" }
	const (
		runCaddy   = "Exec=caddy run --adapter caddyfile --config /srv/conf"
		runNginx   = `Exec=/usr/sbin/nginx -c /srv/conf -g "daemon off; error_log stderr;"`
		runHAProxy = "Exec=/usr/sbin/haproxy -db -f /srv/conf"
		onBridge   = "Network=proxy.network"
	)
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image := "localhost/reverse"
		if err := h.DebianImage(t.Context(), image, []string{"caddy", "haproxy", "nginx"}); err != nil {
			t.Fatal(err)
		}
		app, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := harness.NewBridge(h)
		front, local := h.Port+30, h.Port+40
		mounted := "Volume=" + h.RuntimeDir + "/wiki:/run/wiki"
		for _, test := range []struct {
			name, service, conf string
			lines               []string // of the reverse proxy's container
		}{
			{"Caddy", named, caddy, []string{runCaddy, onBridge}},
			{"nginx", named, http(nginx[0]), []string{runNginx, onBridge}},
			{"nginx with resolver", named, http(strings.Replace(nginx[1], "10.89.0.1", fmt.Sprintf("10.94.%d.1", h.Port%10), 1)), []string{runNginx, onBridge}},
			{"HAProxy", named, haproxy, []string{runHAProxy, onBridge}},
			{"pool", named + "ConnectionIdleTimeout=1s\n", ":80 {\n\treverse_proxy wiki:8080\n}\n", []string{runCaddy, onBridge}},
			{"Caddy by socket", bySocket + "ConnectionIdleTimeout=1s\n", ":80 {\n\treverse_proxy unix//run/wiki/sock\n}\n", []string{runCaddy, mounted}},
			{
				"nginx by socket", strings.Replace(bySocket, "SocketMode=0600", "SocketMode=0666", 1),
				http("server { listen 80; location / { proxy_pass http://unix:/run/wiki/sock:; } }\n"),
				[]string{runNginx, mounted},
			},
			{"on the host", onHost, http(fmt.Sprintf("server { listen %d; location / { proxy_pass http://127.0.0.1:%d; } }\n", front, local)), []string{runNginx, "Network=host"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.For(t)
				file := regexp.MustCompile(`(?m)^IdleTimeout=.*\n`).ReplaceAllString(test.service, "")
				file = strings.Replace(file, "[ScaleToZero]\n", "Exec=-http :80\n[ScaleToZero]\nIdleTimeout=2s\n", 1)
				file = strings.Replace(file, "docker.io/library/wiki", app, 1)
				b.PutFile("app.container", strings.Replace(file, "8081", fmt.Sprint(local), 1))
				b.Must(t, "zerolet", "apply", "--now", map[bool]string{true: "--user", false: "--system"}[b.UserManager])
				dir := b.Home + "/front"
				b.PutFile(dir+"/conf", test.conf)
				lines := append([]string{"[Container]", "Image=" + image, "Volume=" + dir + ":/srv"}, test.lines...)
				if test.lines[len(test.lines)-1] != "Network=host" {
					lines = append(lines, fmt.Sprintf("PublishPort=%d:80", front))
				}
				b.PutFile("front.container", strings.Join(lines, "\n")+"\n")
				b.Reload()
				b.Control("restart", "front.service")
				first := through(b, front)
				b.Asleep()
				if through(b, front) == first {
					t.Error("the service has not slept")
				}
				b.Control("stop", "front.service")
				b.Asleep()
			})
		}
	})
}

// through is what the service behind a reverse proxy says, once that listens itself.
func through(b harness.Bridge, port int) (answer string) {
	b.Helper()
	b.Wait("the reverse proxy answers", func() bool {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", port), nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Close = true
		r, err := b.M.HTTP().Do(req)
		if err != nil {
			return false // it does not listen yet
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatalf("%s %s %v\n%s", r.Status, body, err, b.LastJournal())
		}
		answer = string(body)
		return true
	}, "front.service")
	return answer
}
