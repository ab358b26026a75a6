package systemd

import (
	"context"
	"errors"
	"time"

	"github.com/godbus/dbus/v5"
)

// ErrNotReloaded is the end of a reload that has not begun.
var ErrNotReloaded = errors.New("the manager has not read its units again")

// Reload has the manager read its units again. systemctl succeeds also where the
// manager could not write down what it has, for want of descriptors or memory, and
// goes on as if nothing had happened (manager_reload and invoke_main_loop in
// systemd's src/core; tried on 257). It says so with a signal when there is no way
// back any more.
func (m Manager) Reload(ctx context.Context) error {
	bus, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	begun := make(chan struct{})
	go reloads(bus.signals(ctx, dbus.WithMatchInterface(destination+".Manager"), dbus.WithMatchMember("Reloading")), begun)
	if err := bus.ping(ctx); err != nil { // it knows that we listen
		return err
	}
	if _, err := m.Control(ctx, "daemon-reload"); err != nil {
		return err
	}
	if err := bus.ping(ctx); err != nil {
		return err
	}
	select {
	case <-begun:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Second): // it has come, but a library hands it on in its own time
		return ErrNotReloaded
	}
}

// reloads closes begun at the first reload, and reads to the end: a reload of many
// units has thousands of other signals.
func reloads(signals <-chan *dbus.Signal, begun chan<- struct{}) {
	const name = destination + ".Manager.Reloading"
	told := false
	for s := range signals {
		if s.Name == name && !told {
			told = true
			close(begun)
		}
	}
}
