package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// robot is a client that says what it is told on one connection.
type robot struct {
	*harness.Host
	net.Conn
	read *bufio.Reader
}

func newRobot(h *harness.Host) *robot {
	h.Helper()
	return robotOn(h, h.Connect())
}

func robotOn(h *harness.Host, c net.Conn) *robot {
	h.Helper()
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	return &robot{h, c, bufio.NewReader(c)}
}

// say sends bytes.
func (r *robot) say(text string) {
	r.Helper()
	if _, err := io.WriteString(r.Conn, text); err != nil {
		r.Fatal(err)
	}
}

// hear reads an answer, with its body and who gave it: "asleep", "waking", or "" if
// that was the app.
func (r *robot) hear(method string) (status int, by, body string) {
	r.Helper()
	response, err := http.ReadResponse(r.read, &http.Request{Method: method})
	if err != nil {
		r.Fatalf("%v\n%s", err, r.LastJournal())
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Zerolet-State"), string(text)
}

// expect asks and wants an answer of 200 by somebody.
func (r *robot) expect(by, method, path string, fields ...string) string {
	r.Helper()
	r.say(request(method, path, fields...))
	status, who, body := r.hear(method)
	if status != http.StatusOK || who != by {
		r.Errorf("%s %s %q: %d by %q, want it by %q: %s\n%s", method, path, fields, status, who, by, body, r.LastJournal())
	}
	return body
}

func request(method, path string, fields ...string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: app\r\n%s\r\n", method, path, strings.Join(append(fields, ""), "\r\n"))
}

// keptAwake is about a container that another unit keeps awake: that is no wake, and
// who asks learns of it.
func keptAwake(h *harness.Host) {
	h.Helper()
	keep := []string{"systemd-run", "--unit=keeper", "--property=Requires=app.service", "--property=After=app.service"}
	if h.UserManager {
		keep = append(keep, "--user")
	}
	h.Must(h.T, append(keep, "sleep", "infinity")...)
	wakes := func() string {
		h.Helper()
		summary, _, _ := strings.Cut(h.Must(h.T, "zerolet", "history", "app"), " wake")
		return summary
	}
	h.Wait("the app answers", func() bool { // its first proxy may come while it starts
		answer, err := h.GetPath("/who") // of zerolet's own it is said who it is
		return err == nil && !strings.Contains(answer, "zerolet")
	})
	h.WaitState("app-proxy.service", "inactive")
	h.SyncJournal()
	before := wakes()
	h.Expect("app.service", "active")
	r := newRobot(h)
	r.expect("", "GET", "/who")
	r.Close()
	h.WaitState("app-proxy.service", "inactive")
	h.MustGet()
	h.WaitState("app-proxy.service", "inactive")
	h.SyncJournal()
	if after := wakes(); after != before {
		h.Errorf("history: %s wakes, and then %s\n%s", before, after, h.LastJournal())
	}
	h.Expect("app.service", "active")
	h.Control("stop", "keeper.service")
	h.Asleep()
}

// Robots wake nothing and keep nothing awake; who asks for more is a client, on the
// same connection, too, and nothing of what it says is lost.
func TestProbes(t *testing.T) {
	t.Parallel()
	const kuma = "User-Agent: Uptime-Kuma/1.23.16"
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		declare := func(idle string) {
			h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout="+idle, "WakeBy=data", "Probe=/who /lookup*", "IgnoreAgent=uptime-kuma/*")
		}
		declare("1h") // else the proxy ends between two words of a robot on a slow machine
		never := h.Property("app.service", "InvocationID")
		untouched := func(what string) {
			h.Helper()
			if now := h.Property("app.service", "InvocationID"); now != never {
				h.Fatalf("%s woke it\n%s", what, h.LastJournal())
			}
		}
		sleep := func() {
			h.Helper()
			h.Must(t, "zerolet", "sleep", "--force", "app")
			h.Asleep()
		}
		for range 3 { // a port scan
			h.Connect().Close()
		}
		r := newRobot(h)
		r.expect("asleep", "GET", "/who")
		r.expect("asleep", "HEAD", "/who")
		r.expect("asleep", "GET", "/lookup?name=app", "Accept: text/html")
		r.expect("asleep", "GET", "/", kuma)
		for range 3 {
			r.say(request("GET", "/who"))
		}
		for range 3 {
			r.hear("GET")
		}
		for _, piece := range strings.SplitAfter(request("GET", "/who", "X: y"), "\n") {
			r.say(piece)
		}
		r.hear("GET")
		old := newRobot(h)
		old.say("GET /who HTTP/1.0\r\n\r\n")
		if status, by, _ := old.hear("GET"); status != 200 || by != "asleep" {
			h.Errorf("HTTP/1.0: %d by %q", status, by)
		}
		if _, err := old.read.ReadByte(); err != io.EOF {
			h.Errorf("after HTTP/1.0: %v", err)
		}
		untouched("a robot")
		h.Wait("it is said to be asleep", func() bool { return strings.Contains(h.Must(t, "zerolet", "status"), "asleep") }, "app-proxy.service")

		r.expect("asleep", "GET", "/who")
		r.say(request("POST", "/echo", "Content-Length: 9") + "all of it")
		if status, by, body := r.hear("POST"); status != 200 || by != "" || body != "all of it" {
			h.Errorf("after a probe: %d by %q: %q\n%s", status, by, body, h.LastJournal())
		}
		r.expect("", "GET", "/who") // bytes like any others
		probing := newRobot(h)
		probing.expect("", "GET", "/who")
		probing.expect("", "GET", "/", kuma)
		r.Close()
		probing.Close()
		sleep()

		woken := h.Property("app.service", "InvocationID")
		r = newRobot(h)
		r.say(request("GET", "/who", "X-Long: "+strings.Repeat("a", 60_000))) // is not read to its end
		if status, by, _ := r.hear("GET"); status != 200 || by != "" {
			h.Errorf("a head of 60 kB: %d by %q", status, by)
		}
		probing = newRobot(h)
		probing.expect("", "GET", "/who")
		probing.say(request("GET", "/who") + request("POST", "/echo", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n" + request("GET", "/"))
		probing.hear("GET")
		if status, by, body := probing.hear("POST"); status != 200 || by != "" || body != "abc" {
			h.Errorf("behind probes: %d by %q: %q\n%s", status, by, body, h.LastJournal())
		}
		probing.hear("GET")
		r.Close()
		if h.Property("app.service", "InvocationID") == woken {
			h.Error("it was not asleep")
		}
		probing.Close()
		sleep()

		h.Must(t, "zerolet", "wake", "app")
		r = newRobot(h)
		r.expect("", "GET", "/who")
		r.Close()
		h.Unused("app")
		h.Must(t, "zerolet", "sleep", "app")
		h.Asleep()
		r = newRobot(h)
		r.say("garbage\r\n\r\n")
		if status, _, _ := r.hear("GET"); status != http.StatusBadRequest {
			h.Errorf("garbage: %d", status)
		}
		r.Close()
		sleep()

		declare("1s")
		keepNothingAwake(h)
		keptAwake(h)
		for _, want := range []string{"a connection wakes it, and counts, from its first byte on", "a GET of /who /lookup* is answered 200", "User-Agent is uptime-kuma/*"} {
			if out := h.Must(t, "zerolet", "explain", "app"); !strings.Contains(out, want) {
				h.Errorf("explain has no %q:\n%s", want, out)
			}
		}
		h.Must(t, "zerolet", "doctor")
	})
}

// keepNothingAwake has connections that say nothing be there when the proxy ends, and an
// app that is awake be probed until it sleeps.
func keepNothingAwake(h *harness.Host) {
	h.Helper()
	last := h.Property("app.service", "InvocationID")
	silent, asked := newRobot(h), newRobot(h)
	asked.say(request("GET", "/who"))
	if _, err := silent.read.ReadByte(); err != io.EOF {
		h.Errorf("the silent connection: %v", err)
	}
	if _, err := io.Copy(io.Discard, asked.read); errors.Is(err, os.ErrDeadlineExceeded) {
		h.Errorf("one that was answered stays: %v", err)
	}
	h.Asleep()
	if h.Property("app.service", "InvocationID") != last {
		h.Errorf("a silent connection woke it\n%s", h.LastJournal())
	}
	// A client who has not said anything for long when the proxy ends is closed.
	h.Wait("it is awake", func() bool { _, err := h.Get(); return err == nil }, "app-proxy.service")
	h.Wait("it sleeps while it is probed", func() bool {
		_, _ = h.GetPath("/who")
		return h.State("app.service") == "inactive"
	}, "app-proxy.service")
	h.Asleep()
}
