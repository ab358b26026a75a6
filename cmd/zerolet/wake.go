package main

import (
	"context"
	"fmt"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
)

// wakeUp starts the services and waits until each serves.
func (c *call) wakeUp(ctx context.Context) (int, error) {
	services, err := c.services(ctx)
	if err != nil {
		return exitFailure, err
	}
	for _, s := range services {
		if err := c.wakeOne(ctx, s); err != nil {
			return exitError, err
		}
	}
	return exitOK, nil
}

// wakeOne is a client like any other: it comes to a socket and waits until the
// proxy has let it through to the app. Then it leaves.
func (c *call) wakeOne(ctx context.Context, s *service) error {
	switch {
	case s.refused(), s.orphan(), s.socket.Is("active") && len(s.deaf) > 0:
		return c.cannot(ctx, s, "be woken")
	case s.state() == awake && (s.reached() || s.dependency()):
		return c.printf("%s: awake already\n", s.name)
	case s.dependency():
		return c.notAlone(ctx, s)
	}
	began := c.clock()
	for _, args := range s.starts() {
		if err := c.control(ctx, began, args...); err != nil {
			return failure{exitError, fmt.Sprintf("%s: %v", s.name, err), fmt.Sprintf("zerolet doctor --%s", c.manager)}
		}
	}
	client, leave := knock(ctx, s.ways(ownAddresses()))
	defer leave()
	err := c.watchService(ctx, s.name, func(s *service) (bool, error) {
		c.progressLine("%s: %s, %.1fs", s.name, s.phase(), c.clock().Sub(began).Seconds())
		switch state := s.state(); {
		case isClosed(client.turnedAway), state == failing && s.failedSince(began):
			return false, c.cannot(ctx, s, "be woken")
		case state == awake:
			return s.reached() || isClosed(client.nowhere), nil
		}
		return false, nil
	})
	c.progressLine("")
	if err != nil {
		return err
	}
	took := c.clock().Sub(began).Seconds()
	if isClosed(client.nowhere) {
		return c.printf("%s: its container is up after %.2fs; its app could not be asked: no address of this machine gets through (zerolet explain --%s %[1]s)\n", s.name, took, c.manager)
	}
	return c.printf("%s: awake after %.2fs\n", s.name, took)
}

// starts are systemctl's arguments for what a client does not start, or may
// not. An app with Mode=native has to find its first one waiting: else nobody
// sees when it begins to accept.
func (s *service) starts() [][]string {
	var all [][]string
	if !s.socket.Is("active") {
		all = append(all, []string{"start", "--", wire.Socket.Of(s.name)})
	}
	switch {
	case s.opener.Found():
		return all
	case s.target.Found():
		return append(all, []string{"start", "--no-block", "--", wire.Wake.Of(s.name)})
	}
	return append(all, []string{"start", "--no-block", "--", wire.Proxy.Of(s.name)})
}

// failedSince tells whether it is news that the service is failing.
func (s *service) failedSince(began time.Time) bool {
	isNews := func(at time.Time) bool { return !at.Before(began) }
	if !s.proxy.Is("active", "activating", "failed") && !s.container.Is("failed", "activating", "deactivating") {
		return isNews(s.failed.time) // an old one, and systemd has not begun yet
	}
	return s.proxy["SubState"] == "auto-restart" || isNews(s.failed.time) ||
		isNews(s.proxy.Time("InactiveEnterTimestamp")) || isNews(s.container.Time("InactiveEnterTimestamp")) ||
		!s.proxyFirst() && isNews(s.proxy.Time("InactiveExitTimestamp"))
}

// cannot is the failure that says why.
func (c *call) cannot(ctx context.Context, s *service, what string) error {
	why, err := c.trouble(ctx, s)
	if err != nil {
		return err
	}
	if why == "" && s.failed.time.After(s.wake.time) {
		why = s.failed.text
	}
	if why == "" {
		why = "it is " + string(s.state())
	}
	flag := ""
	if c.systemd().User {
		flag = " --user"
	}
	return failure{exitError, fmt.Sprintf("%s cannot %s: %s", s.name, what, why), fmt.Sprintf("journalctl%s -u %s.service", flag, s.name)}
}

// phase is what a waking service is doing.
func (s *service) phase() string {
	if s.container.Is("active") {
		return "waiting for the app"
	}
	return "starting the container"
}

// watchService asks for a service again and again until done says so.
func (c *call) watchService(ctx context.Context, name string, done func(*service) (bool, error)) error {
	one := *c
	one.names = []string{name}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		services, err := one.services(ctx)
		if err != nil {
			return err
		}
		if over, err := done(services[0]); over || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return failure{exitError, "interrupted", ""}
		case <-tick.C:
		}
	}
}

// progressLine replaces the line on a terminal.
func (c *call) progressLine(format string, args ...any) {
	if c.progress {
		control(c.stderr.w, "\r\x1b[K")
		c.stderr.text(format, args...)
	}
}
