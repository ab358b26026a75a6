package main

import (
	"context"
	"errors"
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
	var all []string
	for i, change := range changes {
		at := slices.IndexFunc(plan.Endpoints, func(e *generator.Endpoint) bool { return e.Spec.Unit == change.name })
		if at < 0 || len(change.opens) == 0 {
			continue
		}
		e := plan.Endpoints[at]
		units := append([]string{wire.Container.Of(e.Spec.Unit)}, e.MemberServices()...)
		if owner, _ := e.Owner(); owner != nil {
			units = append(units, wire.Container.Of(owner.Unit()))
		}
		changes[i].stock = stock{units, e.Forwards}
		all = append(all, units...)
	}
	if len(all) == 0 {
		return nil
	}
	run, err := c.host().InTheWay(ctx, all)
	if err != nil {
		return c.unreachable(err)
	}
	for i := range changes {
		s := &changes[i].stock
		s.units = slices.DeleteFunc(s.units, func(name string) bool { return !slices.Contains(run, name) })
		if len(s.units) > 0 {
			changes[i].text += ", stops " + strings.Join(s.units, ", ") + " until the next client comes"
		}
	}
	return nil
}

// takeOver stops what is in the way. What another unit needs is up again before
// the socket listens, without the ports.
func (c *call) takeOver(ctx context.Context, changes []change) error {
	var groups [][]string
	var forwards []generator.Forward
	for _, change := range changes {
		if len(change.stock.units) > 0 {
			groups = append(groups, change.stock.units)
			forwards = append(forwards, change.stock.forwards...)
		}
	}
	if len(groups) == 0 {
		return nil
	}
	held, err := c.host().Held(ctx, groups)
	if err != nil {
		return err
	}
	stop, restart := []string{"stop", "--"}, []string{"restart", "--"}
	for i, units := range groups {
		if held[i] {
			restart = append(restart, units...)
		} else {
			stop = append(stop, units...)
		}
	}
	for _, args := range [][]string{stop, restart} {
		if len(args) == 2 {
			continue
		}
		_, e := c.systemd().Control(ctx, args...)
		err = errors.Join(err, e)
	}
	// What forwards to the container for rootless Podman ends after the container.
	c.free(ctx, func(l service.Listener) bool { return slices.ContainsFunc(forwards, l.Excludes) })
	return err
}
