package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/proxy/wire"
)

// sleep stops the proxies: each drains, and its container goes with it.
func (c *call) sleep(ctx context.Context) (int, error) {
	services, err := c.services(ctx, service.Closely)
	if err != nil {
		return exitFailure, err
	}
	begun := c.stopTogether(ctx, services)
	return c.each(services, func(s *service.Service) error {
		if begun[s] {
			return c.awaitSleep(ctx, s)
		}
		return c.sleepOne(ctx, s)
	})
}

// stopTogether has those stop side by side that nothing keeps from it, up to the first
// of which that cannot be said: what comes after that one may have to stay as it is. If
// systemd does not do so, it is asked about one after the other, and says which it is.
func (c *call) stopTogether(ctx context.Context, services []*service.Service) map[*service.Service]bool {
	begun := make(map[*service.Service]bool)
	stop := []string{"stop", "--"}
	for _, s := range services {
		if !c.stopsAtOnce(s) {
			break
		}
		if isUp(s) {
			begun[s] = true
			stop = append(stop, wire.Proxy.Of(s.Name))
		}
	}
	if len(begun) < 2 {
		return nil
	}
	c.progressLine("%s: stopping", plural(len(begun), "service"))
	if _, err := c.systemd().Control(ctx, stop...); err != nil {
		return nil
	}
	return begun
}

// stopsAtOnce reports whether a stop of its proxy is all that there is to do.
func (c *call) stopsAtOnce(s *service.Service) bool {
	return !s.Orphan() && !s.Dependency() && !isWaking(s) && len(s.HeldBy) == 0 &&
		(c.force || s.Connections() == 0) && (!s.Proxy.Found() || s.Owns(s.Proxy))
}

// isWaking reports whether somebody waits in the backlog for a container that starts, or
// has to wait for its turn.
func isWaking(s *service.Service) bool {
	return s.Proxy.Waits() && s.Proxy.Is("inactive", "failed") && s.Owns(s.Proxy) && s.Owns(s.Socket)
}

// isUp reports whether there is anything to stop.
func isUp(s *service.Service) bool {
	const up, starts, stops = "active", "activating", "deactivating"
	return s.Proxy.Is(up, starts, stops) || s.Container.Is(up, starts, stops)
}

func (c *call) sleepOne(ctx context.Context, s *service.Service) error {
	if s.Orphan() {
		return c.cannot(ctx, s, "be put to sleep")
	}
	if isWaking(s) {
		return c.sleepWaking(ctx, s)
	}
	if s.Connections() > 0 && !c.force {
		if err := c.unused(ctx, s); err != nil {
			return err
		}
	}
	if !isUp(s) {
		return c.tell(deed{Name: s.Name, Result: asBefore, Message: "asleep already"})
	}
	stop := wire.Proxy.Of(s.Name)
	if s.Proxy.Found() && !s.Owns(s.Proxy) {
		return failure{exitError, stop + " is not zerolet's: it is left alone", c.systemctl(stop, "stop")}
	}
	if s.Dependency() {
		if err := c.unneeded(ctx, s); err != nil {
			return err
		}
		stop = wire.Container.Of(s.Name)
	}
	c.progressLine("%s: stopping", s.Name)
	_, err := c.systemd().Control(ctx, "stop", "--", stop)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return c.awaitSleep(ctx, s)
}

// sleepWaking is about one whose container starts, or waits for its turn, for
// somebody who waits in the backlog of its socket, where only the kernel knows of
// them: a proxy that was stopped would start again for them.
func (c *call) sleepWaking(ctx context.Context, s *service.Service) error {
	if !c.force {
		what := "is waking: somebody waits for it"
		if len(s.Before) > 0 {
			what = fmt.Sprintf("waits for its turn (%s), and its clients with it: %s", s.Group, inTheWay(s.Before))
		}
		return inUse{failure{
			exitError, s.Name + " " + what,
			c.typed(s.Name, "sleep", "--force") + " cuts them off",
		}}
	}
	c.progressLine("%s: stopping", s.Name)
	socket := wire.Socket.Of(s.Name)
	_, err := c.systemd().Control(ctx, "stop", "--", socket, wire.Proxy.Of(s.Name))
	if s.Socket.Is("active") {
		_, e := c.systemd().Control(ctx, "start", "--", socket)
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return c.awaitSleep(ctx, s)
}

// awaitSleep tells when the container is gone, or was gone and starts again for
// somebody who has come since.
func (c *call) awaitSleep(ctx context.Context, s *service.Service) error {
	const began = "InactiveExitTimestamp"
	err := c.follow(ctx, s.Name, nil, func(now *service.Service) (bool, error) {
		if by := now.HeldBy; len(by) > 0 {
			return false, failure{exitError, fmt.Sprintf("%s stays up: %s needs it", s.Name, strings.Join(by, ", ")), c.typed(s.Name, "explain")}
		}
		if now.Shut() {
			return false, c.cannot(ctx, now, "be woken any more")
		}
		gone := !now.Container.Is("active", "deactivating", "activating") || !now.Owns(now.Container) && now.Proxy.Is("inactive") ||
			now.Container.Time(began).After(s.Container.Time(began))
		return gone && !now.Opener.Is("activating") && !now.Opener.Waits(), nil
	})
	if err != nil {
		return err
	}
	return c.tell(deed{Name: s.Name, Result: nowAsleep, Message: "asleep"})
}

// unused fails if the service is in use. The proxy tells of its connections
// once a second, and looks for those that it does not accept itself once a
// second, if the processors are not too busy: who has just hung up is not taken for
// one who stays.
func (c *call) unused(ctx context.Context, s *service.Service) error {
	deadline := c.clock().Add(5 * time.Second)
	return c.follow(ctx, s.Name, nil, func(now *service.Service) (bool, error) {
		n := now.Connections()
		if n > 0 && c.clock().After(deadline) {
			return false, inUse{failure{
				exitError, fmt.Sprintf("%s is in use: %s open", s.Name, plural(n, "connection")),
				c.typed(s.Name, "sleep", "--force") + " lets them end for 10s, then cuts them off",
			}}
		}
		return n == 0, nil
	})
}

// inUse is the failure of a sleep that --force is for.
type inUse struct{ failure }

func (u inUse) Unwrap() error { return u.failure }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
