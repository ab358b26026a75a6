package service

import (
	"context"
	"errors"
	"time"
)

// ErrGone is the end of a watch over a service whose file is gone.
var ErrGone = errors.New("systemd does not know it any more")

// Watch looks at one service, and again each time that systemd tells of a change
// in its units, until done is true. What else is to be seen may come to again.
// journald tells nobody of a record: while the units rest, it is asked now and
// then.
func (h Host) Watch(ctx context.Context, name string, again <-chan struct{}, done func(*Service) (bool, error)) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	bus, err := h.Connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	changes := bus.Changes(ctx, (&Service{Name: name}).Units()...)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		l := look{Host: h, bus: bus, depth: Closely}
		all, err := l.services(ctx, []string{name})
		if err == nil && len(all.Services) == 0 {
			err = ErrGone
		}
		if err == nil {
			err = h.remember(ctx, all.Services)
		}
		if err != nil {
			return err
		}
		if over, err := done(all.Services[0]); over || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changes:
		case <-again:
		case <-tick.C:
		}
	}
}
