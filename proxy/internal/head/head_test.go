package head

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
)

const get = "GET /up HTTP/1.1\r\nHost: a\r\n"

func TestRead(t *testing.T) {
	for text, want := range map[string]Request{
		get + "\r\n":                                {Method: "GET", Path: "/up"},
		get + "\r\nGET /x HTTP/1.1\r\n":             {Method: "GET", Path: "/up", Length: len(get) + 2},
		"HEAD /a/b?c=/d HTTP/1.1\r\nhost:a\r\n\r\n": {Method: "HEAD", Path: "/a/b"},
		"GET / HTTP/1.0\r\n\r\n":                    {Method: "GET", Path: "/", Last: true},
		get + "USER-AGENT:  x/1 (y)\t\r\n\r\n":      {Method: "GET", Path: "/up", Agent: "x/1 (y)"},
		get + "Connection: x , Close\r\n\r\n":       {Method: "GET", Path: "/up", Last: true},
		get + "Content-Length: 0\r\n\r\n":           {Method: "GET", Path: "/up"},
		get + "Accept: image/png, text/HTML;q=0.9\r\nSec-Fetch-Mode: navigate\r\n\r\n":         {Method: "GET", Path: "/up", Navigates: true},
		get + "Accept: text/html\r\n\r\n":                                                      {Method: "GET", Path: "/up", Navigates: true},
		"OPTIONS /up HTTP/1.1\r\nHost: a\r\nZerolet-Waiting: yes\r\nAccept: text/html\r\n\r\n": {Method: "OPTIONS", Path: "/up", Polls: true},
		get + "Accept: text/html\r\nZerolet-Waiting: yes\r\nSec-Fetch-Mode: cors\r\n\r\n":      {Method: "GET", Path: "/up"},
		get + "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n\r\n":                              {Method: "GET", Path: "/up"},
		get + "Accept: text/html\r\nSec-Purpose: prefetch\r\n\r\n":                             {Method: "GET", Path: "/up"},
		get + "Accept: */*\r\n\r\n":                                                            {Method: "GET", Path: "/up"},
	} {
		want.Target = strings.Fields(text)[1]
		if want.Length == 0 {
			want.Length = len(text)
		}
		if got, err := Read([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
		for n := range want.Length {
			if r, err := Read([]byte(text)[:n]); !errors.Is(err, ErrIncomplete) {
				t.Errorf("%q: %+v, %v", text[:n], r, err)
				break
			}
		}
	}
}

// What two readers could understand in two ways, and what more is wanted of than an
// answer, is for the app.
func TestReadOther(t *testing.T) {
	long := get + "A: " + strings.Repeat("a", Max) + "\r\n\r\n"
	for _, text := range []string{
		"\r\n" + get + "\r\n", "\x16\x03\x01", "SSH-2.0-x\r\n", "PRI * HTTP/2.0\r\n\r\n", "POST /up HTTP/1.1\r\n", "get /up",
		"GET http://a/up HTTP/1.1\r\nHost: a\r\n\r\n", "GET  /up HTTP/1.1\r\nHost: a\r\n\r\n", "GET /up\tHTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /up HTTP/1.2\r\nHost: a\r\n\r\n", "GET /up HTTP/01.1\r\nHost: a\r\n\r\n", "GET /up\r\n\r\n", "GET /u#p HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /\xc3\xbc HTTP/1.1\r\nHost: a\r\n\r\n", "GET /up HTTP/1.1\r\n\r\n", get + "Host: b\r\n\r\n",
		get + "Content-Length: 1\r\n\r\n", get + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n", get + "Content-Length: +0\r\n\r\n",
		get + "Content-Length : 5\r\n\r\n", get + " Content-Length: 5\r\n\r\n", get + "X: a\r\n b\r\n\r\n",
		get + "Transfer-Encoding: chunked\r\n\r\n", get + "transfer-encoding: identity\r\n\r\n",
		"GET /up HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", get + "Transfer\x00-Encoding: chunked\r\n\r\n", get + "Transfer_Encoding\x0b: chunked\r\n\r\n",
		"OPTIONS /up HTTP/1.1\r\nHost: a\r\n\r\n", get + "Upgrade: websocket\r\n\r\n", get + "Connection: keep-alive, Upgrade\r\n\r\n", get + "Expect: 100-continue\r\n\r\n",
		get + "X: a\nY: b\r\n\r\n", get + "X: a\rY: b\r\n\r\n", get + "\n", get + "X\r\n\r\n", get + ": x\r\n\r\n",
		get + "User-Agent: a\r\nUser-Agent: b\r\n\r\n", long, long[:Max],
	} {
		if r, err := Read([]byte(text)); !errors.Is(err, ErrOther) {
			t.Errorf("%.80q: %+v, %v", text, r, err)
		}
	}
}

func TestMatch(t *testing.T) {
	for path, want := range map[string]bool{"/up": true, "/up/": false, "/api/a/up": true, "/api/a/b/up": false, "/UP": false, "/%75p": false, "": false} {
		if got := MatchPath([]string{"/up", "/api/*/up"}, path); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
	for agent, want := range map[string]bool{
		"Uptime-Kuma/1.23": true, "Mozilla/5.0 (compatible; UPTIMEROBOT/2.0; http://x/)": true, "Mozilla/5.0": false, "": false, "a/b": false,
	} {
		if got := MatchAgent([]string{"uptime-kuma/*", "*UptimeRobot*", "a?"}, agent); got != want {
			t.Errorf("%s: %t", agent, got)
		}
	}
}

// What is taken is what net/http takes for the same request, of the same length.
func FuzzRead(f *testing.F) {
	f.Add([]byte(get + "\r\n"))
	f.Add([]byte(get + "User-Agent: a b\r\nAccept: text/html\r\nConnection: close\r\nContent-Length: 0\r\n\r\nGET /"))
	f.Add([]byte("HEAD /a?b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(b)
		if err != nil {
			return
		}
		if got.Length > len(b) || got.Length > Max || !bytes.HasSuffix(b[:got.Length], []byte("\r\n\r\n")) {
			t.Fatalf("%q: %d bytes", b, got.Length)
		}
		rest := bufio.NewReaderSize(bytes.NewReader(b), 2*len(b)+16)
		r, err := http.ReadRequest(rest)
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		left := rest.Buffered()
		if read := len(b) - left; read != got.Length {
			t.Errorf("%q: %d bytes, and net/http reads %d", b, got.Length, read)
		}
		path, _, _ := strings.Cut(r.RequestURI, "?")
		if r.Method != got.Method || path != got.Path || r.UserAgent() != got.Agent {
			t.Errorf("%q: %+v", b, got)
		}
		if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Close && !got.Last {
			t.Errorf("%q: more follows: %d bytes, %v, closes %t", b, r.ContentLength, r.TransferEncoding, r.Close)
		}
		for n := range got.Length { // however it comes
			if r, err := Read(b[:n]); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("%q: %+v, %v", b[:n], r, err)
			}
		}
	})
}
