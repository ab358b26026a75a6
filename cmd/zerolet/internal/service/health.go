package service

import (
	"context"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// WhileStarts asks from time to time while the container starts, until the answer is
// yes. It goes on from one start to the next where that follows at once, as when
// somebody needs a container that has failed: systemd does not start again who is
// here still.
func (h Host) WhileStarts(ctx context.Context, name string, ask func() bool) error {
	bus, err := h.Connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	unit := wire.Container.Of(name)
	changes := bus.Changes(ctx, unit)
	var began time.Time
	var next <-chan time.Time // never while Podman is not there yet
	for {
		u := make(systemd.Unit)
		wanted := systemd.Wanted{Name: unit, Properties: []string{"ActiveState", "SubState", "Job"}, Into: u}
		if err := bus.Fill(ctx, []systemd.Wanted{wanted}); err != nil {
			return err
		}
		switch starts := u.Is("activating") && u["SubState"] == "start"; {
		case !u.Waits() && !u.Is("activating", "deactivating"):
			return nil
		case !starts:
			next = nil
		case next == nil:
			began = time.Now()
			next = time.After(pause(0))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-next:
			if ask() {
				return nil
			}
			next = time.After(pause(time.Since(began)))
		}
	}
}

// pause is how long nobody asks an app that has started so long ago. To ask costs
// 0.1 s of a processor (Podman 5.4), which a slow app needs itself.
func pause(since time.Duration) time.Duration {
	return min(max(since/20, 250*time.Millisecond), time.Second)
}
