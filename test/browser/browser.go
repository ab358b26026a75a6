// Package browser is a headless Chromium in a machine: it sees what a browser on
// that machine sees, and nothing else.
package browser

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/zerolet/zerolet/test/lab"
)

// WithoutScripts is an option with which pages run none.
const WithoutScripts = "--blink-settings=scriptEnabled=false"

// program is the browser, and the Debian package that it comes in.
const program = "chromium-headless-shell"

// Packages are what a machine has to have, and what any test with a browser has
// besides: with one list for all, one tree is built.
func Packages() []string {
	return []string{"cockpit-bridge", "cockpit-system", "cockpit-ws", "sudo", "nmap", "prometheus-blackbox-exporter", program}
}

// patience bounds every wait.
const patience = 2 * time.Minute

// Tab is one of a browser.
type Tab struct {
	testing.TB
	ctx   context.Context
	heard *heard
}

// heard are the browser's complaints.
type heard struct {
	mu  sync.Mutex
	all []string
}

// Open starts a browser in the session, with an empty profile, and with options for
// its command line. It ends with the test.
func Open(t testing.TB, m *lab.Machine, s *lab.Session, options ...string) *Tab {
	t.Helper()
	address := start(t, s, options)
	local, err := forward(t, m, address.Host)
	if err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	address.Host = local
	allocator, stop := chromedp.NewRemoteAllocator(t.Context(), address.String(), chromedp.NoModifyURL)
	t.Cleanup(stop)
	// What a newer Chromium has to say besides is nothing to report.
	ctx, leave := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}),
		chromedp.WithBrowserOption(chromedp.WithDialTimeout(patience)))
	t.Cleanup(leave)
	tab := &Tab{TB: t, ctx: ctx, heard: &heard{}}
	chromedp.ListenTarget(ctx, tab.heard.hear)
	// The first Run starts all: what its context ends, ends, too.
	if err := chromedp.Run(ctx, log.Enable(), emulation.SetDeviceMetricsOverride(1280, 900, 1, false)); err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	return tab
}

// start runs Chromium, and returns where it wants to be spoken to. As root it has no
// sandbox; it sees pages of the test only.
func start(t testing.TB, s *lab.Session, options []string) *url.URL {
	t.Helper()
	profile := strings.TrimSpace(s.Must(t, "mktemp", "--directory"))
	cmd := s.Command(t.Context(), append([]string{
		program, "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
		"--remote-debugging-port=0", "--user-data-dir=" + profile, "about:blank",
	}, options...)...)
	output, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("Chromium: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // the test's context has ended it
	said := bufio.NewScanner(output)
	var all strings.Builder
	for said.Scan() {
		if _, at, found := strings.Cut(said.Text(), "DevTools listening on "); found {
			go func() { _, _ = io.Copy(io.Discard, output) }()
			if address, err := url.Parse(at); err == nil {
				return address
			}
		}
		all.WriteString(said.Text() + "\n")
	}
	t.Fatalf("Chromium does not run: %v\n%s", said.Err(), all.String())
	return nil
}

// forward has a port of this host's loopback lead to an address of the machine.
func forward(t testing.TB, m *lab.Machine, address string) (local string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := m.Dial(context.WithoutCancel(t.Context()), "tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			go copyUntilEnd(server, client)
			go copyUntilEnd(client, server)
		}
	}()
	return listener.Addr().String(), nil
}

func copyUntilEnd(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
}

// hear keeps what the browser complains of.
func (h *heard) hear(event any) {
	var text string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError {
			text = fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeAssert {
			for _, arg := range e.Args {
				text += fmt.Sprintf("%s %s ", arg.Value, arg.Description)
			}
		}
	}
	if text == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, text)
}

// Complaints are what was wrong with the pages so far, by the browser's word:
// exceptions, what a policy has refused, what could not be loaded.
func (tab *Tab) Complaints() []string {
	h := tab.heard
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

// For is the tab for another test, such as a part of that which opened it.
func (tab *Tab) For(t testing.TB) *Tab {
	return &Tab{TB: t, ctx: tab.ctx, heard: tab.heard}
}

// Go goes to an address.
func (tab *Tab) Go(url string) {
	tab.Helper()
	tab.run("going to "+url, chromedp.Navigate(url))
}

// Do runs JavaScript in the page, in a block of its own.
func (tab *Tab) Do(script string) {
	tab.Helper()
	tab.run(script, chromedp.Evaluate("{"+script+"}", nil))
}

// Text is what a JavaScript expression is.
func (tab *Tab) Text(expression string) string {
	tab.Helper()
	var text string
	tab.run(expression, chromedp.Evaluate("String("+expression+")", &text))
	return text
}

// Reach goes to an address of a server that may be about to hang up.
func (tab *Tab) Reach(url string) {
	tab.Helper()
	tab.until(url+" is shown", func(ctx context.Context) error { return chromedp.Run(ctx, chromedp.Navigate(url)) })
}

// Wait waits until a JavaScript expression is true. While it cannot be evaluated,
// as of a page that is not there yet, it is not.
func (tab *Tab) Wait(expression string) {
	tab.Helper()
	tab.until(expression, func(ctx context.Context) error {
		var is bool
		err := chromedp.Run(ctx, chromedp.Evaluate("Boolean("+expression+")", &is))
		if err == nil && !is {
			err = errors.New("it is false")
		}
		return err
	})
}

func (tab *Tab) until(what string, try func(context.Context) error) {
	tab.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			tab.Fatalf("after %s it is still not so that %s: %v\n%s\n%s", patience, what, err, tab.shown(), strings.Join(tab.Complaints(), "\n"))
		case <-again.C:
		}
	}
}

// shown is what a person would read, for a failed test.
func (tab *Tab) shown() (text string) {
	const all = `[document, ...[...document.querySelectorAll("iframe")].map(f => f.contentDocument)].map(d => d.body.innerText).join("\n---\n")`
	ctx, cancel := context.WithTimeout(tab.ctx, 10*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, chromedp.Evaluate(all, &text)); err != nil {
		return err.Error()
	}
	return text
}

// Type presses keys, wherever the focus is.
func (tab *Tab) Type(keys string) {
	tab.Helper()
	tab.run("keys", chromedp.KeyEvent(keys))
}

// Resize makes the window larger or smaller.
func (tab *Tab) Resize(width, height int64) {
	tab.Helper()
	tab.run("another size", emulation.SetDeviceMetricsOverride(width, height, 1, false))
}

// Wish says which colours the person wants: "light" or "dark".
func (tab *Tab) Wish(scheme string) {
	tab.Helper()
	tab.run(scheme, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// Picture takes a screenshot, as a PNG.
func (tab *Tab) Picture() []byte {
	tab.Helper()
	var picture []byte
	tab.run("screenshot", chromedp.CaptureScreenshot(&picture))
	return picture
}

func (tab *Tab) run(what string, actions ...chromedp.Action) {
	tab.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		tab.Fatalf("%s: %v\n%s", what, err, strings.Join(tab.Complaints(), "\n"))
	}
}
