package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// wakeUp starts the services and waits until each serves.
func (c *call) wakeUp(ctx context.Context) (int, error) {
	services, err := c.services(ctx, service.Closely)
	if err != nil {
		return exitFailure, err
	}
	return c.each(services, func(s *service.Service) error { return c.wakeOne(ctx, s) })
}

// wakeOne is a client like any other: it comes to a socket and waits until the
// proxy has let it through to the app. Then it leaves.
func (c *call) wakeOne(ctx context.Context, s *service.Service) error {
	switch {
	case s.Refused(), s.Orphan(), s.Socket.Is("active") && len(s.NotListening) > 0:
		return c.cannot(ctx, s, "be woken")
	case s.State() == service.Awake && (s.Reached() || s.Dependency()):
		return c.tell(deed{Name: s.Name, Result: asBefore, Message: "awake already"})
	case s.Dependency():
		return c.notAlone(ctx, s)
	}
	began := c.clock()
	if err := c.start(ctx, s); err != nil {
		return err
	}
	again := false
	waiting, leave := connect(ctx, ways(s, ownAddresses()))
	defer leave()
	err := c.follow(ctx, s.Name, waiting.news, func(s *service.Service) (bool, error) {
		c.progressLine("%s: %s, %.1fs", s.Name, phase(s), c.clock().Sub(began).Seconds())
		switch state := s.State(); {
		case s.GivenUp() && !again: // an attempt that was under way has failed
			again = true
			return false, c.start(ctx, s)
		case isClosed(waiting.turnedAway), state == service.Failing && s.FailedSince(began):
			return false, c.cannot(ctx, s, "be woken")
		case state == service.Awake:
			return s.Reached() || isClosed(waiting.nowhere), nil
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	took := c.clock().Sub(began).Seconds()
	d := deed{Name: s.Name, Result: nowAwake, Message: fmt.Sprintf("awake after %.2fs", took), Seconds: took}
	if isClosed(waiting.nowhere) {
		why := "no address of this machine gets through"
		if len(s.Listens()) == 0 && len(s.Networks()) > 0 {
			why = "it listens on no address of this machine, only on a network of containers"
		}
		d.Message = fmt.Sprintf("its container is up after %.2fs; its app could not be asked: %s (%s)", took, why, c.typed(s.Name, "explain"))
	}
	return c.tell(d)
}

// start has systemd start what a client does not, or may not.
func (c *call) start(ctx context.Context, s *service.Service) error {
	began := c.clock()
	for _, args := range s.Starts() {
		if err := c.control(ctx, began, args...); err != nil {
			return failure{exitError, fmt.Sprintf("%s: %v", s.Name, err), fmt.Sprintf("zerolet doctor --%s", c.manager)}
		}
	}
	return nil
}

// cannot is the failure that says why.
func (c *call) cannot(ctx context.Context, s *service.Service, what string) error {
	why, err := untilTold(ctx, func() (string, error) {
		all, err := c.troubles(ctx, s)
		why := all[s]
		if why == "" && s.Failed.Time.After(s.Wake.Time) {
			why = s.Failed.Text
		}
		return why, err
	})
	if err != nil {
		return err
	}
	if why == "" {
		why = "it is " + string(s.State())
	}
	flag := ""
	if c.systemd().User {
		flag = " --user"
	}
	return failure{exitError, fmt.Sprintf("%s cannot %s: %s", s.Name, what, why), fmt.Sprintf("journalctl%s -u %s.service", flag, s.Name)}
}

// phase is what a waking service is doing.
func phase(s *service.Service) string {
	switch {
	case s.Container.Is("active"):
		return "waiting for the app"
	case len(s.Before) > 0:
		return fmt.Sprintf("waiting for its turn (%s): %s", s.Group, inTheWay(s.Before))
	}
	return "starting the container"
}

// follow sees a service until done says so.
func (c *call) follow(ctx context.Context, name string, again <-chan struct{}, done func(*service.Service) (bool, error)) error {
	err := c.host().Watch(ctx, name, again, done)
	c.progressLine("")
	switch {
	case ctx.Err() != nil:
		return failure{exitError, "interrupted", ""}
	case errors.Is(err, service.ErrGone):
		return c.unknown(name)
	}
	return err
}

// progressLine replaces the line on a terminal.
func (c *call) progressLine(format string, args ...any) {
	if c.progress {
		control(c.stderr.w, "\r\x1b[K")
		c.stderr.text(format, args...)
	}
}
