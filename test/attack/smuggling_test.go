package attack

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// Two that read the same bytes, the proxy and the app, may disagree where a request
// ends. Then a client has a request in the body of another one, and behind a reverse
// proxy that keeps a connection for all of its clients, one gets the answer to
// another's.

const (
	probe  = "GET /who HTTP/1.1\r\nHost: a\r\n\r\n"
	field  = "GET /who HTTP/1.1\r\nHost: a\r\n"
	hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
)

// smuggled are requests that look like probes, or like a browser's for a page, with
// something in them that not everybody reads alike.
func smuggled() map[string]string {
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	page := strings.Replace(field, "/who", "/", 1) + "Accept: text/html\r\n"
	all := map[string]string{
		"a body":                   field + length + "\r\n" + hidden,
		"a body of a page":         page + length + "\r\n" + hidden,
		"a body of HTTP/1.0":       "GET /who HTTP/1.0\r\n" + length + "\r\n" + hidden,
		"a chunked one":            field + "Transfer-Encoding: chunked\r\n\r\n" + chunk,
		"a chunked one of a page":  page + "Transfer-Encoding: chunked\r\n\r\n" + chunk,
		"chunked HTTP/1.0":         "GET /who HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
		"CL.TE":                    field + fmt.Sprintf("Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5+len(hidden)) + hidden,
		"TE.CL":                    field + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
		"TE.0":                     field + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
		"no body in chunks":        field + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"two lengths":              field + "Content-Length: 0\r\n" + length + "\r\n" + hidden,
		"twice the same length":    field + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + hidden,
		"lines that end with LF":   strings.ReplaceAll(probe, "\r\n", "\n") + hidden,
		"one that does":            field + "X: a\n" + length + "\r\n" + hidden,
		"a head that does":         field + "\n" + hidden,
		"a line that ends with CR": field + "X: a\r" + length + "\r\n" + hidden,
		"a folded line":            field + "X: a\r\n " + length + "\r\n" + hidden,
		"one folded by a tab":      field + "X: a\r\n\t" + length + "\r\n" + hidden,
		"a folded first one":       field[:len("GET /who HTTP/1.1\r\n")] + " X: a\r\nHost: a\r\n" + length + "\r\n" + hidden,
		"a folded value":           field + "Transfer-Encoding:\r\n chunked\r\n\r\n" + chunk,
		"an absolute form":         "GET http://a/who HTTP/1.1\r\nHost: b\r\n\r\n" + hidden,
		"two spaces":               "GET  /who HTTP/1.1\r\nHost: a\r\n\r\n" + hidden,
		"a space behind":           "GET /who HTTP/1.1 \r\nHost: a\r\n\r\n" + hidden,
		"a space within":           "GET /who /x HTTP/1.1\r\nHost: a\r\n\r\n" + hidden,
		"a version within":         "GET /who HTTP/1.1 HTTP/1.0\r\nHost: a\r\n\r\n" + hidden,
		"a tab":                    "GET\t/who HTTP/1.1\r\nHost: a\r\n\r\n" + hidden,
		"NUL in a path":            "GET /who\x00 HTTP/1.1\r\nHost: a\r\n\r\n" + hidden,
		"NUL in a value":           field + "X: \x00\r\n" + length + "\r\n" + hidden,
		"a fragment":               "GET /who#/x HTTP/1.1\r\nHost: a\r\n\r\n" + hidden,
		"an empty line before":     "\r\n" + probe + hidden,
		"a version of none":        "GET /who\r\n" + hidden,
		"another version":          "GET /who HTTP/1.2\r\nHost: a\r\n\r\n" + hidden,
		"HTTP/2":                   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + probe,
		"no host":                  "GET /who HTTP/1.1\r\n\r\n" + hidden,
		"two hosts":                field + "Host: b\r\n\r\n" + hidden,
		"two agents":               field + "User-Agent: robot/1\r\nUser-Agent: b\r\n\r\n" + hidden,
		"a probe in a body":        "POST /echo HTTP/1.1\r\nHost: a\r\n" + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(probe)) + probe,
		"CONNECT":                  "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + probe,
		"an upgrade":               field + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + probe,
		"an upgrade to HTTP/2":     field + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n" + probe,
		"half an upgrade":          field + "Connection: x, upgrade\r\n\r\n" + probe,
		"an expectation":           field + "Expect: 100-continue\r\n" + length + "\r\n" + hidden,
		"one without a body":       field + "Expect: 100-continue\r\n\r\n" + hidden,
		"an answer":                "HTTP/1.1 100 Continue\r\n\r\n" + probe,
		"a request cut short":      probe[:len(probe)-2],
	}
	for _, value := range []string{" +0", " -0", " 0x0", " 0, 0", " 0,0", " 00", "", " 0 0", " \x0b0"} {
		all["a length of "+value] = field + "Content-Length:" + value + "\r\n\r\n" + hidden
	}
	for _, line := range []string{
		"Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", "Transfer-Encoding:\tchunked", "Transfer-Encoding:\x0bchunked", "transfer-encoding: xchunked",
		"Transfer-Encoding\x00: chunked", "\x00Transfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x", "Transfer-Encoding: x, chunked",
		"Transfer-Encoding: identity", "Transfer-Encoding:", "Transfer-Encoding: \"chunked\"", "X: x\nTransfer-Encoding: chunked", "X: x\rTransfer-Encoding: chunked",
		"Transfer-Encoding\xff: chunked", "Transfer\xadEncoding: chunked", "Content-Length : 9", "Trailer: x", "x", ": x", "(x): x",
	} {
		all[line] = field + line + "\r\n\r\n" + chunk
	}
	return all
}

// What the proxy cannot read in one way only, the app gets from its first byte on,
// behind requests that the proxy has answered, too, and behind others that went to
// the app.
func TestSmuggling(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-echo :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s",
			"WakeBy=data", "Probe=/who", "IgnoreAgent=robot/*", "WaitingPage=yes")
		all := smuggled()
		names := slices.Sorted(maps.Keys(all))
		type client struct {
			*net.TCPConn
			read *bufio.Reader
			name string
		}
		var clients []client
		for i, name := range slices.Concat(names, names) {
			c := client{TCPConn: h.Connect(), name: name}
			c.read = bufio.NewReader(c)
			if i < len(names) {
				c.name = name
				say(h, c, probe)
				if by := answeredBy(h, c.read); by != "asleep" {
					t.Fatalf("a probe is answered by %q", by)
				}
			}
			clients = append(clients, c)
		}
		h.Expect("app.service", "inactive")
		for _, c := range clients {
			say(h, c, all[c.name])
			_ = c.CloseWrite() // what is read fails if it did
		}
		for _, c := range clients {
			if got, err := io.ReadAll(c.read); err != nil || string(got) != all[c.name] {
				t.Errorf("asleep, %s: %v, the app has\n%q of\n%q", c.name, err, got, all[c.name])
			}
		}
		stays := h.Connect()
		say(h, stays, "x")
		if _, err := io.ReadFull(stays, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		for name, text := range all {
			c := h.Connect()
			say(h, c, probe+probe+text)
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != probe+probe+text {
				t.Errorf("awake, %s: %v, the app has\n%q of\n%q", name, err, got, probe+probe+text)
			}
		}
		_ = stays.Close()
		h.Asleep()
	})
}

func say(h *harness.Host, c io.Writer, text string) {
	h.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		h.Fatal(err)
	}
}

// answeredBy reads an answer; it is "" if that is the app's.
func answeredBy(h *harness.Host, read *bufio.Reader) string {
	h.Helper()
	r, err := http.ReadResponse(read, nil)
	if err != nil {
		h.Fatalf("%v\n%s", err, h.LastJournal())
	}
	defer r.Body.Close()
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		h.Fatal(err)
	}
	return r.Header.Get("Zerolet-State")
}

// frontConf is a reverse proxy with one connection to an app, for all of its clients.
const frontConf = `error_log stderr;
pid /tmp/front-%[1]d;
worker_processes 1;
daemon off;
user root;
events {}
http {
  access_log off;
  ignore_invalid_headers off;
  underscores_in_headers on;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  upstream first { server 127.0.0.1:%[1]d; keepalive 1; }
  upstream second { server 127.0.0.1:%[2]d; keepalive 1; }
  server { listen 127.0.0.1:%[3]d; location / { proxy_pass http://first; } }
  server { listen 127.0.0.1:%[4]d; location / { proxy_request_buffering off; proxy_pass http://second; } }
}
`

// Behind a reverse proxy that has one connection for all, everybody gets the answer
// to what they have asked, whatever somebody else says.
func TestSharedConnection(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		image, err := h.NginxImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var apps []int // of three fronts
		for i, name := range []string{"first", "second", "third"} {
			apps = append(apps, h.Port+10*i)
			h.App(name, "-http :80", fmt.Sprintf("PublishPort=%d:80", apps[i]), "[ScaleToZero]",
				"WakeBy=data", "Probe=/who", "IgnoreAgent=robot/*", "WaitingPage=yes")
		}
		buffers, streams := h.Port+100, h.Port+200
		dir := h.Home + "/front"
		h.PutFile(dir+"/conf", fmt.Sprintf(frontConf, apps[0], apps[1], buffers, streams))
		h.PutFile("front.container", "[Container]\nImage="+image+"\nNetwork=host\nVolume="+dir+":/srv:ro\nExec=/usr/sbin/nginx -c /srv/conf\n")
		h.Reload()
		h.Control("start", "front.service")
		for name, address := range map[string]string{"nginx": port(buffers), "nginx that streams": port(streams), "net/http": goFront(h, port(apps[2]))} {
			h.Wait(name+" answers", func() bool { c, err := h.M.Dial(t.Context(), "tcp", address); return err == nil && c.Close() == nil })
			t.Run(name, func(t *testing.T) {
				host := *h
				host.T = t
				front{&host, address}.attacked()
			})
		}
	})
}

func port(n int) string { return fmt.Sprintf("127.0.0.1:%d", n) }

// goFront is what Caddy and Traefik are made of.
func goFront(h *harness.Host, app string) string {
	h.Helper()
	front := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: app})
	front.Transport = &http.Transport{DialContext: h.M.Dial, MaxConnsPerHost: 1}
	front.ErrorLog = log.New(io.Discard, "", 0) // of who has left
	var l net.Listener
	err := h.M.Network(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err })
	if err != nil {
		h.Fatal(err)
	}
	server := &http.Server{Handler: front, ReadHeaderTimeout: harness.Patience}
	go server.Serve(l)
	h.Cleanup(func() { _ = server.Close() })
	return l.Addr().String()
}

// front is a reverse proxy.
type front struct {
	*harness.Host
	address string
}

func (f front) dial() net.Conn {
	f.Helper()
	c, err := f.M.Dial(f.Context(), "tcp", f.address)
	if err != nil {
		f.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	return c
}

// attacked has attackers and a victim come in turns: first to an app that is asleep,
// where the victim is there before the app can have answered anybody.
func (f front) attacked() {
	for range 3 {
		c := f.dial()
		say(f.Host, c, probe)
		if by := answeredBy(f.Host, bufio.NewReader(c)); by != "asleep" {
			f.Errorf("a probe is answered by %q", by)
		}
		_ = c.Close()
	}
	f.attack(smuggled()["a body"])
	f.victim("a body, asleep")
	for name, text := range smuggled() {
		f.attack(probe)
		f.attack(text)
		f.victim(name)
		f.attack(probe + text)
		f.victim("a probe and " + name)
	}
}

func (f front) attack(text string) {
	f.Helper()
	c := f.dial()
	defer c.Close()
	say(f.Host, c, text)
	_ = c.SetReadDeadline(time.Now().Add(time.Second)) // not all are answered
	if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = r.Body.Close()
	}
}

// victim asks for an answer that nobody else does.
func (f front) victim(after string) {
	f.Helper()
	word := fmt.Sprintf("after %q", after)
	c := f.dial()
	defer c.Close()
	say(f.Host, c, fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(word), word))
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || string(body) != word {
		f.Errorf("%s %v: %q, %v, want %q", r.Status, r.Header, body, err, word)
	}
}
