package harness

import (
	"fmt"

	"github.com/zerolet/zerolet/proxy/wire"
)

// What is told of a moment ago may not be there yet: the journal's records are taken by
// journald, and of its connections a proxy tells once a second.

// SyncJournal returns when the journal has all that was written to it so far (--sync in
// journalctl(1)).
func (h *Host) SyncJournal() { h.Helper(); h.M.Root().Must(h.T, "journalctl", "--sync") }

// Connected is how many clients a service has, as its proxy has told systemd, and
// whether its app was reached.
func (h *Host) Connected(name string) (clients int64, reached bool, err error) {
	text, err := h.Show(h.Context(), wire.Proxy.Of(name), "StatusText")
	status := wire.ParseStatus(text)
	return status.Open, status.Reached, err
}

// WaitConnected waits until the proxy of a service has told of so many clients. Before
// the first one has reached the app it has told of none, whoever has come.
func (h *Host) WaitConnected(name string, clients int64) {
	h.Helper()
	h.WaitFor(h.T, Patience, fmt.Sprintf("%s has told of %d clients", wire.Proxy.Of(name), clients), func() (bool, error) {
		now, reached, err := h.Connected(name)
		return reached && now == clients, err
	}, wire.Proxy.Of(name))
}

// WaitManager waits until the manager answers: systemctl daemon-reexec returns when it
// has hung up, and nobody listens until it has started anew.
func (h *Host) WaitManager() {
	h.Helper()
	h.Wait("the manager answers", func() bool {
		_, err := h.Systemctl(h.Context(), "show", "--property=Version")
		return err == nil
	})
}
