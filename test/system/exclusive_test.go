package system

import (
	"bufio"
	"encoding/json"
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

// A client of a second service is held while somebody is connected to the first,
// which then sleeps at once; whoever is asked says who waits for whom.
func TestExclusive(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("db.container", "[Container]\nImage="+image+"\nExec=-http :80\n[ScaleToZero]\n") // it has no socket
		h.PutFile("second.container.d/db.conf", "[Unit]\nRequires=db.service\nAfter=db.service\n")
		for i, name := range []string{"app", "second"} {
			h.App(name, "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+1000*i), "[ScaleToZero]", "IdleTimeout=infinity", "Exclusive=gpu")
		}
		first := h.Connect()
		ask(h, first)
		second := h.ConnectTo(h.Port + 1000)
		h.Wait("the second one says what it waits for", func() bool {
			out := h.Must(t, "zerolet", "status")
			return strings.Contains(out, "second: waits for its turn (gpu): app is awake")
		}, "second.service")
		h.Expect("db.service", "active") // what it needs may run
		start := h.Property("second.service", "InvocationID")
		if out, err := h.Session.Run(t.Context(), "zerolet", "sleep", "second"); err == nil || !strings.Contains(out.Stderr, "second waits for its turn (gpu), and its clients with it: app is awake") {
			t.Errorf("zerolet sleep: %v: %s%s", err, out.Stdout, out.Stderr)
		}
		if h.Property("second.service", "InvocationID") != start {
			t.Errorf("it has lost its place\n%s", h.LastJournal())
		}
		var r struct {
			Services []struct {
				Name, State string
				WaitsFor    []string
			}
		}
		if err := json.Unmarshal([]byte(h.Must(t, "zerolet", "status", "--json")), &r); err != nil {
			t.Fatal(err)
		}
		if s := r.Services[2]; s.Name != "second" || s.State != "waking" || strings.Join(s.WaitsFor, " ") != "app" {
			t.Errorf("status: %+v", r)
		}
		ask(h, first) // nobody is cut off
		h.Expect("app.service", "active")
		first.Close()
		ask(h, second)
		third := h.Connect() // waits for the next turn
		h.WaitState("app.service", "activating")
		second.Close()
		ask(h, third)
		third.Close()

		h.WaitState("second-proxy.service", "inactive") // until then it needs its container
		h.Control("start", "second.service")            // by hand: nobody needs it
		h.Expect("second.service", "inactive")
		if out := h.Must(t, "zerolet", "explain", "app"); !strings.Contains(out, "no other service with Exclusive=gpu is") {
			t.Errorf("explain: %s", out)
		}
		// Who has it and dies leaves it to the next.
		again := h.ConnectTo(h.Port + 1000)
		ask(h, again)
		waiting := h.Connect()
		h.WaitState("app.service", "activating")
		h.Must(t, "podman", "kill", "systemd-second")
		ask(h, waiting)
		again.Close()
		last := h.ConnectTo(h.Port + 1000)
		waiting.Close()
		ask(h, last)
		takenBack(t, h)
		ask(h, last)
		notWhileInside(h, last)
		h.Must(t, "zerolet", "sleep", "--force", "app")
		h.Must(t, "zerolet", "sleep", "--force", "second")
		exclusivePage(h)
	})
}

// notWhileInside has somebody in the second one by podman exec when its last client goes.
func notWhileInside(h *harness.Host, last net.Conn) {
	h.Helper()
	h.Must(h.T, "podman", "exec", "--detach", "systemd-second", "/app", "-delay", "1h", "-http", ":81")
	last.Close()
	waits := h.Connect()
	defer waits.Close()
	h.WaitState("app.service", "activating")
	began := time.Now()
	h.Wait("it was asked a few times", func() bool { return time.Since(began) > 4*time.Second })
	h.Expect("second.service", "active")
	h.Must(h.T, "pkill", "--full", "--exact", "/app -delay 1h -http :81")
	ask(h, waits)
}

// takenBack has the client of one that waits for its turn be cut off, and nobody else.
func takenBack(t *testing.T, h *harness.Host) {
	t.Helper()
	off := h.Connect()
	h.WaitState("app.service", "activating")
	if out := h.Must(t, "zerolet", "sleep", "--force", "app"); !strings.Contains(out, "app: asleep") {
		t.Errorf("zerolet sleep --force: %s", out)
	}
	if _, err := off.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client waits on: %v", err)
	}
	h.Expect("app.service", "inactive")
	h.Expect("app-proxy.service", "inactive")
	h.WaitState("app-proxy.socket", "active")
	h.SyncJournal()
	h.Must(t, "zerolet", "status") // it sleeps as it was asked to
}

// ask is a request on a connection that stays open.
func ask(h *harness.Host, c net.Conn) { h.Helper(); answered(h, c, "/") }

// answered is what is answered to one.
func answered(h *harness.Host, c net.Conn, path string) string {
	h.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		h.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		h.Fatalf("no answer: %v\n%s", err, h.LastJournal())
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		h.Fatalf("%s: %v", r.Status, err)
	}
	return string(body)
}
