package system

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/browser"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

var pictures = flag.String("pictures", "", "draw what the browser shows in this `directory`; waiting-light.png is that of docs/recipes.md")

// gate has a container start when the test says so, or fail. It is a part of its
// file.
func gate(h *harness.Host, name string) (line string, open, fail, shut func()) {
	path := h.RuntimeDir + "/" + name
	put := func(word string) {
		h.Helper()
		h.Must(h.T, "sh", "-c", fmt.Sprintf("echo %s >%s", word, path))
	}
	line = fmt.Sprintf("ExecStartPre=/bin/sh -c 'until grep -q . %s; do sleep 0.05; done; grep -q open %s'", path, path)
	shut = func() { h.Helper(); h.Must(h.T, "sh", "-c", ": >"+path) }
	shut()
	return line, func() { h.Helper(); put("open") }, func() { h.Helper(); put("fail") }, shut
}

// A browser is shown a page while the container starts, and then the app at the same
// address; whoever else comes is held. Real monitors and port scans wake nothing.
func TestInFront(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{Packages: browser.Packages()})
	tab, plain := browser.Open(t, m, m.Root()), browser.Open(t, m, m.Root(), browser.WithoutScripts)
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		start, open, fail, shut := gate(h, "gate")
		h.App("app", "-http :80", h.Publish(), "[Service]", start,
			"[ScaleToZero]", "IdleTimeout=1s", "ConnectionIdleTimeout=1s", "WakeBy=data", "Probe=/who", "WaitingPage=yes") // a browser keeps connections
		tab := tab.For(t)
		watched(h)
		visited(h, tab, plain.For(t), open, shut)
		failing(h, tab, open, fail, shut)
		neededPage(h)
		ownPage(h, tab, open, shut)
		leavesNoPage(h)
		pictured(h, tab)
	})
}

// watched is about monitors.
func watched(h *harness.Host) {
	h.Helper()
	never := h.Property("app.service", "InvocationID")
	exporter := func(module, target string) {
		h.Helper()
		var text []byte
		ask := "http://127.0.0.1:9115/probe?module=" + module + "&target=" + url.QueryEscape(target)
		h.Wait("the blackbox exporter succeeds with "+module, func() bool {
			r, err := h.M.HTTP().Get(ask)
			if err != nil {
				return false
			}
			defer r.Body.Close()
			text, _ = io.ReadAll(r.Body)
			return strings.Contains(string(text), "\nprobe_success 1\n")
		})
	}
	exporter("http_2xx", "http://"+h.Addr()+"/who")
	exporter("tcp_connect", h.Addr())
	for _, scan := range []string{"-sT", "-sS"} {
		port := fmt.Sprint(h.Port)
		if out := h.M.Root().Must(h.T, "nmap", "-n", "-Pn", scan, "-p", port, "127.0.0.1"); !regexp.MustCompile(port + `/tcp +open`).MatchString(out) {
			h.Errorf("nmap %s:\n%s", scan, out)
		}
	}
	if now := h.Property("app.service", "InvocationID"); now != never {
		h.Errorf("a monitor woke it\n%s", h.LastJournal())
	}
}

// is of the text that the app answers with.
const isID = `/^[A-Z2-7]{26}$/.test(document.body.innerText.trim())`

// visited is about a browser.
func visited(h *harness.Host, tab, plain *browser.Tab, open, shut func()) {
	h.Helper()
	address := "http://" + h.Addr() + "/once?a=b#c" // which the app has to see once, and no more often
	tab.Go(address)
	tab.Wait(`document.title === "app is waking"`)
	tab.Wait(`document.getElementById("waits").innerText.includes("its container to start")`)
	h.WaitState("app.service", "activating")
	if status := h.Must(h.T, "zerolet", "status"); !strings.Contains(status, "waking") {
		h.Errorf("status:\n%s", status)
	}
	held := make(chan string, 2)
	for _, fields := range []string{"Accept: */*", "Accept: text/html\r\nSec-Fetch-Mode: cors"} {
		r := newRobot(h)
		r.say(request("GET", "/", fields, "Connection: close"))
		go func() {
			text, _ := io.ReadAll(r.read)
			held <- string(text)
		}()
	}
	r := newRobot(h)
	r.expect("waking", "GET", "/who", "Accept: text/html")
	r.say(request("GET", "/", "Accept: text/html"))
	if status, by, body := r.hear("GET"); status != http.StatusServiceUnavailable || by != "waking" || !strings.Contains(body, "<h1>app</h1>") {
		h.Errorf("the page: %d by %q: %s", status, by, body)
	}
	if len(held) > 0 {
		h.Errorf("answered before it was awake: %s", <-held)
	}
	open()
	for range 2 {
		if text := <-held; !strings.HasPrefix(text, "HTTP/1.1 200 ") {
			h.Errorf("held, and then: %s", text)
		}
	}
	tab.Wait(isID)
	if at := tab.Text("location.href"); at != address {
		h.Errorf("it is at %s, not %s", at, address)
	}
	tab.Go("about:blank")
	h.Asleep()

	shut()
	plain.Go(address)
	plain.Wait(`document.getElementById("usually").innerText.startsWith("This usually takes about ")`)
	open()
	plain.Wait(isID)
	if at := plain.Text("location.href"); at+"#c" != address {
		h.Errorf("without scripts it is at %s", at)
	}
	plain.Go("about:blank")
	h.Asleep()
}

// failing is about a container that does not start.
func failing(h *harness.Host, tab *browser.Tab, open, fail, shut func()) {
	h.Helper()
	fail()
	tab.Go("http://" + h.Addr() + "/")
	tab.Wait(`document.getElementById("reason").innerText.includes("app.service has failed: exit-code")`) // no main process, so no status of one
	tab.Wait(`document.title === "app is failing"`)
	draw(h, tab, "failing")
	open()
	tab.Wait(isID)
	tab.Go("about:blank")
	h.Asleep()
	shut()
}

// ownPage is about WaitingPageFile=, which need not be there.
func ownPage(h *harness.Host, tab *browser.Tab, open, shut func()) {
	h.Helper()
	own := "/tmp/own page of " + h.Name + ".html" // which the sandbox hides
	h.Must(h.T, "sh", "-c", fmt.Sprintf("echo '<title>own</title><p>{{name}} waits for {{waits}}' >'%s' && chmod a+r '%[1]s'", own))
	for _, test := range []struct{ path, title string }{{own, "own"}, {"/nowhere/page.html", "app is waking"}} {
		start, _, _, _ := gate(h, "gate")
		h.App("app", "-http :80", h.Publish(), "[Service]", start, "[ScaleToZero]", "IdleTimeout=1s", "ConnectionIdleTimeout=1s", "WaitingPage=yes", "WaitingPageFile="+test.path)
		tab.Go("http://" + h.Addr() + "/")
		tab.Wait(fmt.Sprintf("document.title === %q", test.title))
		open()
		h.MustGet()
		tab.Go("about:blank")
		h.Asleep()
		shut()
	}
}

// leavesNoPage is about what has been noted of the service, whose file goes.
func leavesNoPage(h *harness.Host) {
	h.Helper()
	cache := map[bool]string{false: "/var/cache", true: h.Home + "/.cache"}[h.UserManager]
	noted := []string{cache + "/zerolet-wakes/app/times", h.RuntimeDir + "/zerolet-page/app/app.service"}
	h.Must(h.T, "test", "-s", noted[0], "-a", "-s", noted[1])
	forget(h, "app.container")
	h.Must(h.T, "sh", "-c", fmt.Sprintf("! ls -d %s/zerolet-wakes/* /var/cache/private/zerolet-wakes/* %s/zerolet-page/* 2>/dev/null", cache, h.RuntimeDir))
}

// pictured is one whose wakes take a while.
func pictured(h *harness.Host, tab *browser.Tab) {
	h.Helper()
	if *pictures == "" || h.UserManager {
		return
	}
	port := h.Port + 100
	h.App("cloud", "-http :80", fmt.Sprintf("PublishPort=%d:80", port), "[Service]", "ExecStartPre=/bin/sleep 4",
		"[ScaleToZero]", "IdleTimeout=1s", "ConnectionIdleTimeout=1s", "WaitingPage=yes")
	first := h.ConnectTo(port)
	ask(h, first)
	_ = first.Close()
	h.AsleepPod("cloud")
	tab.Resize(720, 400)
	tab.Go(fmt.Sprintf("http://127.0.0.1:%d/", port))
	tab.Wait(`document.querySelector(".bar span").offsetWidth > document.querySelector(".bar").offsetWidth / 3`)
	draw(h, tab, "waiting")
	tab.Wait(isID)
	tab.Go("about:blank")
	h.AsleepPod("cloud")
}

// draw takes the pictures, in the colours for day and night.
func draw(h *harness.Host, tab *browser.Tab, name string) {
	h.Helper()
	if *pictures == "" || h.UserManager {
		return
	}
	for _, scheme := range []string{"light", "dark"} {
		tab.Wish(scheme)
		if err := os.WriteFile(filepath.Join(*pictures, name+"-"+scheme+".png"), tab.Picture(), 0o600); err != nil {
			h.Error(err)
		}
	}
	tab.Wish("light")
}
