package system

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// visit is a browser that opens a page, without the rest of it.
func visit(h *harness.Host, port int) (status int, by, body string) {
	h.Helper()
	r := robotOn(h, h.ConnectTo(port))
	defer r.Close()
	r.say(request("GET", "/", "Accept: text/html"))
	return r.hear("GET")
}

// expectPage wants the page of a service that is waking, with some words in it.
func expectPage(h *harness.Host, port int, words string) {
	h.Helper()
	if status, by, body := visit(h, port); status != http.StatusServiceUnavailable || by != "waking" || !strings.Contains(body, words) {
		h.Errorf("the page: %d by %q, want it with %q: %s\n%s", status, by, words, body, h.LastJournal())
	}
}

// awaitApp comes again until the app answers.
func awaitApp(h *harness.Host, port int) {
	h.Helper()
	h.Wait("the app is there", func() bool {
		status, by, _ := visit(h, port)
		return status == http.StatusOK && by == ""
	})
}

// exclusivePage has a browser be told that a service waits for its turn.
func exclusivePage(h *harness.Host) {
	h.Helper()
	for i, name := range []string{"app", "second"} {
		h.App(name, "-http :80", fmt.Sprintf("PublishPort=%d:80", h.Port+1000*i),
			"[ScaleToZero]", "IdleTimeout=infinity", "Exclusive=gpu", "WaitingPage=yes")
	}
	h.Must(h.T, "zerolet", "apply")
	first := h.Connect()
	ask(h, first)
	expectPage(h, h.Port+1000, "its turn, and its container to start")
	h.Wait("it waits for its turn", func() bool {
		return strings.Contains(h.Output("zerolet", "status"), "second: waits for its turn (gpu): app is awake")
	}, "second.service")
	expectPage(h, h.Port+1000, "its turn, and its container to start")
	ask(h, first) // nobody is cut off
	_ = first.Close()
	awaitApp(h, h.Port+1000)
	h.WaitState("app.service", "inactive")
	expectPage(h, h.Port, "its turn") // and back: nobody is connected to the second
	awaitApp(h, h.Port)
	h.WaitState("second.service", "inactive")
}

// podPage has a browser wait for a pod, and be told which of its containers fails.
func podPage(t *testing.T, h *harness.Host) {
	start, open, fail, shut := gate(h, "pod-page")
	pod(h, h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "WaitingPage=yes")
	h.PutFile("shop-web.container.d/gate.conf", "[Service]\n"+start+"\n")
	h.Must(t, "zerolet", "apply")
	expectPage(h, h.Port, "its containers to start")
	fail()
	h.Wait("the page has the reason", func() bool {
		_, by, body := visit(h, h.Port)
		return by == "failing" && strings.Contains(body, "shop-web.service has failed: exit-code")
	})
	open()
	awaitApp(h, h.Port)
	podAsleep(h)
	shut()
	expectPage(h, h.Port, "its containers to start")
	open()
	awaitApp(h, h.Port)
	podAsleep(h)
}

// neededPage has a browser be told that a container does not even start, since another
// one that it needs fails.
func neededPage(h *harness.Host) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	start, open, fail, _ := gate(h, "needed")
	h.PutFile("needed.container", "[Container]\nImage="+image+"\nExec=-http :80\n[Service]\n"+start+"\n[ScaleToZero]\n")
	h.App("app", "-http :80", h.Publish(), "[Unit]", "Requires=needed.service", "After=needed.service",
		"[ScaleToZero]", "IdleTimeout=1s", "WaitingPage=yes")
	fail()
	h.Wait("the page has the reason", func() bool {
		_, by, body := visit(h, h.Port)
		return by == "failing" && strings.Contains(body, "app.service does not start")
	})
	open()
	awaitApp(h, h.Port)
	h.WaitState("needed.service", "inactive")
	h.Asleep()
}

// namedPage has a browser on a network see the page of a stand-in.
func namedPage(b harness.Bridge) {
	b.Helper()
	start, open, _, _ := gate(b.Host, "named-page")
	b.Name("ContainerName=web", "Network=proxy.network:alias=site", "Network=back.network", "[Service]", start,
		"[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=2s", "WaitingPage=yes")
	for _, name := range []string{"web", "site"} {
		if page := b.Page(name + ":8096"); !strings.Contains(page, "<h1>app</h1>") {
			b.Errorf("%s: %s", name, page)
		}
	}
	open()
	b.Wait("the app is there", func() bool { return !strings.Contains(b.Page("web:8096"), "<h1>") })
	b.Asleep()
}
