package main

import (
	"context"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// A container, pod or .kube that gets its section while it runs has Podman publish
// the ports that its socket is to listen on. The reload makes it one that nobody
// needs, and systemd stops it (StopWhenUnneeded=), but starts the socket without
// waiting for that.

// stock is what runs as stock Quadlet made it.
type stock struct {
	units    []string
	forwards []generator.Forward
}

// findStock adds to the changes what is in the way of the sockets that they open.
func (c *call) findStock(ctx context.Context, plan *generator.Plan, changes []change) error {
	for i := range changes {
		at := slices.IndexFunc(plan.Endpoints, func(e *generator.Endpoint) bool { return e.Spec.Unit == changes[i].name })
		if at < 0 || len(changes[i].opens) == 0 {
			continue
		}
		e := plan.Endpoints[at]
		units := append([]string{wire.Container.Of(e.Spec.Unit)}, e.MemberServices()...)
		if owner, _ := e.Owner(); owner != nil {
			units = append(units, wire.Container.Of(owner.Unit()))
		}
		units, err := c.host().InTheWay(ctx, units)
		if err != nil {
			return c.unreachable(err)
		}
		if len(units) > 0 {
			changes[i].stock = stock{units, e.Forwards}
			changes[i].text += ", stops " + strings.Join(units, ", ") + " until the next client comes"
		}
	}
	return nil
}

// takeOver stops what is in the way. What another unit needs is up again before
// the socket listens, without the ports.
func (c *call) takeOver(ctx context.Context, changes []change) error {
	var forwards []generator.Forward
	for _, change := range changes {
		if len(change.stock.units) == 0 {
			continue
		}
		held, err := c.host().Held(ctx, change.stock.units)
		if err != nil {
			return err
		}
		verb := map[bool]string{false: "stop", true: "restart"}[held]
		if _, err := c.systemd().Control(ctx, append([]string{verb, "--"}, change.stock.units...)...); err != nil {
			return err
		}
		forwards = append(forwards, change.stock.forwards...)
	}
	// What forwards to the container for rootless Podman ends after the container.
	if len(forwards) > 0 {
		c.free(ctx, func(l service.Listener) bool { return slices.ContainsFunc(forwards, l.Excludes) })
	}
	return nil
}
