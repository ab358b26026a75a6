package harness

import (
	"path/filepath"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Frozen waits until a service of Sleep=freeze is frozen, as its proxy and the kernel say.
func (h *Host) Frozen(name string) {
	h.Helper()
	h.Wait(name+" is frozen", func() bool {
		status := wire.ParseStatus(h.Property(wire.Proxy.Of(name), "StatusText"))
		return !status.Frozen.IsZero() && h.IsFrozen(wire.Container.Of(name))
	}, wire.Proxy.Of(name), wire.Container.Of(name))
}

// IsFrozen reports whether all processes of a unit's container are.
func (h *Host) IsFrozen(unit string) bool {
	h.Helper()
	out, err := h.Session.Run(h.Context(), "sh", "-c", `cat "$1"/libpod-payload-*/cgroup.events`, "sh", h.Cgroup(unit))
	return err == nil && strings.Contains(out.Stdout, "frozen 1")
}

// Cgroup is the directory of a unit's control group.
func (h *Host) Cgroup(unit string) string {
	h.Helper()
	return filepath.Join("/sys/fs/cgroup", h.Property(unit, "ControlGroup"))
}
