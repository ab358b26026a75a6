package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
)

// sleep stops the proxies: each drains, and its container goes with it.
func (c *call) sleep(ctx context.Context) (int, error) {
	services, err := c.services(ctx)
	if err != nil {
		return exitFailure, err
	}
	for _, s := range services {
		if err := c.sleepOne(ctx, s); err != nil {
			return exitError, err
		}
	}
	return exitOK, nil
}

func (c *call) sleepOne(ctx context.Context, s *service) error {
	if s.orphan() {
		return c.cannot(ctx, s, "be put to sleep")
	}
	if s.connections() > 0 && !c.force {
		if err := c.unused(ctx, s); err != nil {
			return err
		}
	}
	if !s.proxy.Is("active", "activating", "deactivating") && !s.container.Is("active", "activating", "deactivating") {
		return c.printf("%s: asleep already\n", s.name)
	}
	stop := wire.Proxy.Of(s.name)
	if s.proxy.Found() && !s.owns(s.proxy) {
		return failure{exitError, stop + " is not zerolet's: it is left alone", fmt.Sprintf("systemctl --%s stop %s", c.manager, stop)}
	}
	if s.dependency() {
		if err := c.unneeded(ctx, s); err != nil {
			return err
		}
		stop = s.name + ".service"
	}
	c.progressLine("%s: stopping", s.name)
	_, err := c.systemd().Control(ctx, "stop", "--", stop)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	err = c.watchService(ctx, s.name, func(now *service) (bool, error) {
		by, err := c.heldBy(ctx, now)
		if err != nil {
			return false, err
		}
		if len(by) > 0 {
			return false, failure{exitError, fmt.Sprintf("%s stays up: %s needs it", s.name, strings.Join(by, ", ")), fmt.Sprintf("zerolet explain --%s %s", c.manager, s.name)}
		}
		if now.shut() {
			return false, c.cannot(ctx, now, "be woken any more")
		}
		gone := !now.container.Is("active", "deactivating", "activating") || !now.owns(now.container) && now.proxy.Is("inactive")
		return gone && !now.opener.Is("activating"), nil
	})
	c.progressLine("")
	if err != nil {
		return err
	}
	return c.printf("%s: asleep\n", s.name)
}

// unused fails if the service is in use. The proxy tells of its connections
// once a second, and looks for those that it does not accept itself once a
// second: who has just hung up is not taken for one who stays.
func (c *call) unused(ctx context.Context, s *service) error {
	deadline := c.clock().Add(2500 * time.Millisecond)
	return c.watchService(ctx, s.name, func(now *service) (bool, error) {
		n := now.connections()
		if n > 0 && c.clock().After(deadline) {
			return false, failure{
				exitError, fmt.Sprintf("%s is in use: %s open", s.name, plural(n, "connection")),
				fmt.Sprintf("zerolet sleep --%s --force %s lets them end for 10s, then cuts them off", c.manager, s.name),
			}
		}
		return n == 0, nil
	})
}

// heldBy are the units other than the proxy that run and keep the container up.
func (c *call) heldBy(ctx context.Context, s *service) ([]string, error) {
	var held []string
	others := s.others()
	units, err := c.systemd().Units(ctx, others...)
	for i, u := range units {
		if u.Is("active", "reloading", "activating") {
			held = append(held, others[i])
		}
	}
	return held, err
}

// others are the units besides those of the service that may keep its container
// up.
func (s *service) others() []string {
	names := slices.DeleteFunc(s.container.Needs(), func(name string) bool {
		return name == wire.Proxy.Of(s.name) || name == wire.Wake.Of(s.name)
	})
	slices.Sort(names)
	return slices.Compact(names)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
