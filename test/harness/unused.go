package harness

import "github.com/zerolet/zerolet/proxy/wire"

// Unused waits until a service has heard that nobody is connected any more: "zerolet sleep" takes its proxy's word
// for it, and does not wait for long.
func (h *Host) Unused(name string) {
	h.Helper()
	proxy := wire.Proxy.Of(name)
	h.Wait("nobody is connected to "+name, func() bool {
		return h.State(proxy) != "active" || wire.ParseStatus(h.Property(proxy, "StatusText")).Open == 0
	}, proxy)
}
