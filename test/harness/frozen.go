package harness

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

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

// WatchFreezer answers, each time it is called, to which of these units' containers was written whether they are
// frozen, in this order, since the last time.
func (h *Host) WatchFreezer(units ...string) (writes func() []string) {
	h.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { unix.Close(fd) })
	unitOf := make(map[int32]string)
	for _, unit := range units {
		paths, _ := filepath.Glob(filepath.Join(h.M.Host(h.Cgroup(unit)), "libpod-payload-*", "cgroup.freeze")) // no error for this pattern
		if len(paths) != 1 {
			h.Fatalf("%s: %d containers", unit, len(paths))
		}
		watch, err := unix.InotifyAddWatch(fd, paths[0], unix.IN_MODIFY)
		if err != nil {
			h.Fatal(err)
		}
		unitOf[int32(watch)] = unit
	}
	return func() (all []string) {
		h.Helper()
		events := make([]byte, 4096)
		n, err := unix.Read(fd, events)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			h.Fatal(err)
		}
		for ; n >= unix.SizeofInotifyEvent; n -= unix.SizeofInotifyEvent { // a file's own have no name behind them
			all = append(all, unitOf[int32(binary.NativeEndian.Uint32(events))])
			events = events[unix.SizeofInotifyEvent:]
		}
		return all
	}
}

// Cgroup is the directory of a unit's control group.
func (h *Host) Cgroup(unit string) string {
	h.Helper()
	return filepath.Join("/sys/fs/cgroup", h.Property(unit, "ControlGroup"))
}
