package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
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

// wakeOne is a client like any other: it connects and waits until the proxy has
// let it through to the app. Then it hangs up.
func (c *call) wakeOne(ctx context.Context, s *service) error {
	switch {
	case s.refused(), s.orphan():
		return c.cannot(ctx, s, "be woken")
	case s.state() == awake && s.reached():
		return c.printf("%s: awake already\n", s.name)
	}
	began := c.clock()
	if _, err := c.systemd().Control(ctx, "start", "--no-block", "--", s.name+"-proxy.service"); err != nil {
		return failure{exitError, fmt.Sprintf("%s: %v", s.name, err), fmt.Sprintf("zerolet doctor --%s", c.manager)}
	}
	door, stop := knock(ctx, s.listens())
	defer stop()
	err := c.watchService(ctx, s.name, func(s *service) (bool, error) {
		c.progressLine("%s: %s, %.1fs", s.name, s.phase(), c.clock().Sub(began).Seconds())
		select {
		case <-door.turnedAway:
			return false, c.cannot(ctx, s, "be woken")
		default:
		}
		switch s.state() {
		case failing:
			return false, c.cannot(ctx, s, "be woken")
		case awake:
			return s.reached() || !door.knocked(), nil
		}
		return false, nil
	})
	c.progressLine("")
	if err != nil {
		return err
	}
	return c.printf("%s: awake after %.2fs\n", s.name, c.clock().Sub(began).Seconds())
}

// cannot is the failure that says why.
func (c *call) cannot(ctx context.Context, s *service, what string) error {
	why, err := c.trouble(ctx, s)
	if err != nil {
		return err
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
		fmt.Fprintf(c.stderr.w, "\r\x1b[K"+format, args...)
	}
}

// door is a connection that waits to be let through.
type door struct {
	open       chan struct{} // closed when it is connected
	turnedAway chan struct{} // closed when the other side has closed it
}

// knocked tells whether somebody has heard.
func (d door) knocked() bool {
	select {
	case <-d.open:
		return true
	default:
		return false
	}
}

// knock connects to the first address that takes connections, and says nothing.
func knock(ctx context.Context, listeners []listener) (door, func()) {
	d := door{make(chan struct{}), make(chan struct{})}
	ctx, stop := context.WithCancel(ctx)
	network, address := dialable(listeners)
	if network == "" {
		return d, stop
	}
	go func() {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		close(d.open)
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		_, err = io.Copy(io.Discard, conn) // an app may speak first
		if ctx.Err() == nil && err != nil {
			close(d.turnedAway)
		}
	}()
	return d, stop
}

// dialable is how to connect to one of the listeners, if any takes connections.
func dialable(listeners []listener) (network, address string) {
	for _, l := range listeners {
		if l.kind != "Stream" {
			continue
		}
		if strings.HasPrefix(l.address, "/") {
			return "unix", l.address
		}
		if _, err := netip.ParseAddrPort(l.address); err == nil {
			return "tcp", l.address // an unspecified address is this host
		}
	}
	return "", ""
}
