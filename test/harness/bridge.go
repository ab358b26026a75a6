package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Bridge is a network with somebody in it, who is asked by the host's port.
type Bridge struct{ *Host }

// NewBridge makes proxy.network and back.network, and a container in the former.
func NewBridge(h *Host) Bridge {
	h.Helper()
	n := h.Port % 10 // Podman refuses a subnet that the other manager's bridge has
	h.PutFile("proxy.network", fmt.Sprintf("[Network]\nSubnet=10.94.%d.0/24\n", n))
	h.PutFile("back.network", fmt.Sprintf("[Network]\nSubnet=10.95.%d.0/24\n", n))
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.PutFile("client.container", strings.Join([]string{
		"[Unit]", "StartLimitIntervalSec=0", // tests restart it
		"[Container]", "Image=" + image, "ContainerName=client", "Exec=-http :80", "Network=proxy.network", h.Publish(), "",
	}, "\n"))
	h.Reload()
	h.Control("start", "client.service")
	h.Wait("the container in the network answers", func() bool { _, err := h.Get(); return err == nil }, "client.service")
	return Bridge{h}
}

// For is the same for a test of its own.
func (b Bridge) For(t *testing.T) Bridge {
	return Bridge{&Host{T: t, Session: b.Session, M: b.M, Port: b.Port}}
}

// Ask is Of that may fail.
func (b Bridge) Ask(address string) (string, error) {
	answer, err := b.GetPath("/of?url=" + url.QueryEscape("http://"+address))
	return strings.TrimSpace(answer), err
}

// Page is what a server shows a browser there.
func (b Bridge) Page(address string) string {
	b.Helper()
	page, err := b.GetPath("/of?accept=text/html&url=" + url.QueryEscape("http://"+address))
	if err != nil {
		b.Fatalf("%s: %v\n%s", address, err, b.LastJournal())
	}
	return page
}

// Name declares app.container, with the name web in the network, and waits for its stand-in.
func (b Bridge) Name(lines ...string) {
	b.Helper()
	b.App("app", "-http :80", lines...)
	b.Control("restart", "app-proxy.socket") // what a former file has made may run on
	b.Known("web", "app")
}

// Known waits until a service has its stand-in, and a name leads there. Podman does not: it sends aardvark-dns a
// signal to look again.
func (b Bridge) Known(name, service string) {
	b.Helper()
	unit := wire.StandIn.Of(service)
	b.WaitState(unit, "active")
	want := b.Address("systemd-" + service + "-standin")
	b.Wait(name+" leads to the stand-in", func() bool {
		answer, err := b.GetPath("/lookup?name=" + name)
		return err == nil && strings.TrimSpace(answer) == want
	}, unit)
}

// Of is what a server answers to the container in the network.
func (b Bridge) Of(address string) string {
	b.Helper()
	answer, err := b.Ask(address)
	if err != nil {
		b.Fatalf("%s: %v\n%s", address, err, b.LastJournal())
	}
	return answer
}

// Hold has the container in the network keep a connection to a server, which is
// awake as long, however slow the machine is.
func (b Bridge) Hold(address string) (release func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	r, err := b.open(ctx, "/hold?address="+url.QueryEscape(address))
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	if err != nil {
		cancel()
		b.Fatalf("%s: %v\n%s", address, err, b.LastJournal())
	}
	return func() { cancel(); _ = r.Body.Close() }
}

// Lookup are the addresses of a name in the network.
func (b Bridge) Lookup(name string) string {
	b.Helper()
	answer, err := b.GetPath("/lookup?name=" + name)
	if err != nil {
		b.Fatalf("%s: %v\n%s", name, err, b.LastJournal())
	}
	return strings.TrimSpace(answer)
}

// Address is that of a container in the network.
func (b Bridge) Address(container string) string {
	b.Helper()
	return b.Must(b.T, "podman", "inspect", "--format", `{{(index .NetworkSettings.Networks "systemd-proxy").IPAddress}}`, container)
}

// Asleep waits until the app is.
func (b Bridge) Asleep() {
	b.Helper()
	b.WaitState("app-proxy.service", "inactive")
	b.WaitState("app.service", "inactive")
}
