package system

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"

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
				putBehind(b, strings.Replace(test.service, "docker.io/library/wiki", app+"\nExec=-http :80", 1), local, test.conf,
					append([]string{"Image=" + image}, test.lines...), front)
				first := through(b, front)
				b.Asleep()
				if through(b, front) == first {
					t.Error("the service has not slept")
				}
				b.Control("stop", "front.service")
				b.Asleep()
			})
		}
		streams, err := h.ProgramImage(t.Context(), "protocols/streams")
		if err != nil {
			t.Fatal(err)
		}
		putBehind(b, strings.Replace(named, "docker.io/library/wiki", streams, 1), local, caddy, []string{"Image=" + image, runCaddy, onBridge}, front)
		t.Run("WebSocket", func(t *testing.T) { webSocket(b.For(t), front) })
		t.Run("upload", func(t *testing.T) { upload(b.For(t), front) })
	})
}

// putBehind applies the file of a service, with a short idle time and a port of the
// host's own for 8081, and starts a reverse proxy when its name is there.
func putBehind(b harness.Bridge, service string, local int, conf string, lines []string, front int) {
	b.Helper()
	service = regexp.MustCompile(`(?m)^IdleTimeout=.*\n`).ReplaceAllString(service, "")
	service = strings.Replace(service, "[ScaleToZero]\n", "[ScaleToZero]\nIdleTimeout=2s\n", 1)
	b.PutFile("app.container", strings.Replace(service, "8081", fmt.Sprint(local), 1))
	b.Must(b.T, "zerolet", "apply", "--now", map[bool]string{true: "--user", false: "--system"}[b.UserManager])
	dir := b.Home + "/front"
	b.PutFile(dir+"/conf", conf)
	lines = append([]string{"[Unit]", "After=app.service", "[Container]", "Volume=" + dir + ":/srv"}, lines...)
	if lines[len(lines)-1] != "Network=host" {
		lines = append(lines, fmt.Sprintf("PublishPort=%d:80", front))
	}
	b.PutFile("front.container", strings.Join(lines, "\n")+"\n")
	b.Reload()
	b.Control("restart", "app-proxy.socket")
	if strings.Contains(service, ".network") {
		b.Known("systemd-app-standin", "app") // nginx ends if the name is not there, Caddy waits for DNS
	}
	b.Control("restart", "front.service")
}

// webSocket has a WebSocket through the reverse proxy wake the service, be silent for
// longer than the idle time, and still have the same one.
func webSocket(b harness.Bridge, port int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), harness.Patience)
	defer cancel()
	b.Asleep()
	var c *websocket.Conn
	b.Wait("the reverse proxy listens", func() (ok bool) {
		var answer *http.Response
		var err error
		c, answer, err = websocket.Dial(ctx, fmt.Sprintf("ws://127.0.0.1:%d/websocket", port), &websocket.DialOptions{HTTPClient: b.M.HTTP()}) //nolint:bodyclose // the library's
		if answer != nil && err != nil {
			b.Fatalf("%v\n%s", err, b.LastJournal())
		}
		return err == nil
	}, "front.service")
	for _, message := range []string{"first", "4s"} { // that long the server waits before it sends it back
		err := c.Write(ctx, websocket.MessageText, []byte(message))
		if err != nil {
			b.Fatal(err)
		}
		if _, got, err := c.Read(ctx); err != nil || string(got) != message {
			b.Fatalf("%q came back as %q: %v\n%s", message, got, err, b.LastJournal())
		}
		b.Expect("app-proxy.service", "active")
	}
	// The server closes it: the library gives whoever does 5 s for that.
	if err := c.Write(ctx, websocket.MessageText, []byte("close")); err != nil {
		b.Fatal(err)
	}
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		b.Errorf("the closing handshake: %v", err)
	}
	b.Asleep()
}

// upload sends 1 GB through the reverse proxy to a service that sleeps.
func upload(b harness.Bridge, port int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*harness.Patience)
	defer cancel()
	b.Asleep()
	const size = 1_000_000_000
	sum := sha256.New()
	body := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), size), sum)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/hash", port), body)
	if err != nil {
		b.Fatal(err)
	}
	request.ContentLength, request.Close = size, true
	answer, err := b.M.HTTP().Do(request)
	if err != nil {
		b.Fatalf("%v\n%s", err, b.LastJournal())
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if want := fmt.Sprintf("%x", sum.Sum(nil)); err != nil || string(got) != want {
		b.Errorf("%s: %v; the service has got %s of %s\n%s", answer.Status, err, got, want, b.LastJournal())
	}
	b.Asleep()
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
