package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/podman"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// keepTimeout bounds what a container's unit waits for when it stops.
const keepTimeout = 30 * time.Second

// keepRest is left for the end where systemd's own bound is tighter. A busy machine
// takes seconds for it.
const keepRest = 5 * time.Second

// keep is what the unit of a container says when that is gone (generator/keep.go):
// the unit's name, the image's and those of volumes.
func (c *call) keep(ctx context.Context) (int, error) {
	if len(c.names) < 2 {
		return exitUsage, usage("keep needs a unit and its image")
	}
	unit, image := c.names[0], c.names[1]
	ctx, cancel := context.WithTimeout(ctx, c.keepBound(ctx, unit))
	defer cancel()
	if !c.settle(ctx, unit) {
		return exitOK, nil
	}
	volumes := slices.DeleteFunc(c.names[2:], func(v string) bool { return strings.HasPrefix(v, "/") }) // a specifier may be a directory
	// What cannot be kept, the doctor tells: here it would be the container's last words.
	_ = podman.Keep(ctx, podman.Use{Unit: unit, Image: image, Rootfs: c.rootfs, Volumes: volumes})
	return exitOK, nil
}

// keepBound is how long keep may take. systemd gives each ExecStopPost= as long as
// TimeoutStopSec= (service_run_next_control in systemd's service.c), and then calls
// the whole unit failed.
func (c *call) keepBound(ctx context.Context, unit string) time.Duration {
	container, _, _ := strings.Cut(unit, "#") // of several that one unit plays
	stop := c.host().StopTimeout(ctx, wire.Container.Of(container), keepTimeout+keepRest)
	return max(stop-keepRest, stop/2)
}

// keepSleepers has Podman keep what is not kept yet, and lets go of what no file
// uses any more.
func (c *call) keepSleepers(ctx context.Context, plan *generator.Plan) error {
	kept, err := keepMissing(ctx, plan)
	if err != nil {
		return err
	}
	if err := errors.Join(c.forgetAttempts(usesOf(plan)), c.forgetWaits(plan)); err != nil || len(kept) == 0 {
		return err
	}
	if len(plan.Endpoints) == 0 {
		return podman.ForgetAll(ctx)
	}
	for _, use := range usesOf(plan) {
		delete(kept, use.Unit)
	}
	for unit := range kept {
		if err := podman.Forget(ctx, unit); err != nil {
			return err
		}
	}
	return nil
}

// keepMissing has Podman keep what is not kept yet. What cannot be kept now, as
// before the first wake, is when the container has stopped. It returns what had
// been kept.
func keepMissing(ctx context.Context, plan *generator.Plan) (map[string]string, error) {
	uses := usesOf(plan)
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+len(uses))*keepTimeout)
	defer cancel()
	kept, err := podman.Kept(ctx)
	if err != nil {
		return nil, err
	}
	for _, use := range uses {
		if _, is := kept[use.Unit]; use.known && !use.refused && !is {
			_ = podman.Keep(ctx, use.Use) // the doctor tells
		}
	}
	return kept, nil
}

// use is what a container of an endpoint uses.
type use struct {
	podman.Use
	*generator.Endpoint

	known   bool // also to others than its unit
	refused bool
	update  generator.AutoUpdate
}

func usesOf(plan *generator.Plan) []use {
	unknown := func(s string) bool { return s == "" || strings.ContainsAny(s, "%$") }
	var all []use
	for _, e := range plan.Endpoints {
		for _, u := range e.Uses() {
			all = append(all, use{
				Use:      podman.Use{Unit: u.Unit, Image: u.Image, Rootfs: u.Rootfs, Volumes: u.Volumes},
				Endpoint: e,
				known:    !unknown(u.Image) && !slices.ContainsFunc(u.Volumes, unknown),
				refused:  e.Refused(),
				update:   u.Update,
			})
		}
	}
	return all
}

// doctorKept: Podman prunes the volumes of a container that is none. An image can
// be had again.
func (c *call) doctorKept(ctx context.Context, plan *generator.Plan, all *service.All) []finding {
	kept, err := podman.Kept(ctx)
	if err != nil {
		return nil // told of podman itself
	}
	var found []finding
	for _, use := range usesOf(plan) {
		s := all.Named(use.Spec.Unit)
		sleeps := s == nil || s.Container.Is("inactive", "failed")
		_, is := kept[use.Unit]
		risked := !use.refused && sleeps && !is && use.known && len(use.Volumes) > 0 && podman.HasVolumes(ctx, use.Use)
		what := use.Unit + ": podman prune may remove its volumes, and the data in them"
		switch {
		case risked && podman.HasImage(ctx, use.Use):
			found = append(found, byCommand(what, c.mend()...))
		case risked: // as after "podman image rm --force", which removes what keeps them
			found = append(found, byHand(what+": without its image nothing keeps them", "get the image, then say "+strings.Join(c.mend(), " ")))
		}
		delete(kept, use.Unit)
	}
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		found = append(found, byCommand(name+": its file is gone, and podman prune does not remove its image and volumes", c.mend()...))
	}
	return found
}
