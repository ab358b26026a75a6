package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
)

// notAlone says why a dependency cannot be woken: systemd would stop at once
// what nobody needs.
func (c *call) notAlone(ctx context.Context, s *service) error {
	by := s.others()
	if len(by) == 0 {
		return failure{exitError, s.name + " cannot be woken: it has no port, and nothing needs it", s.needHint()}
	}
	hint, err := c.insteadOf(ctx, by[0], "wake", "start")
	if err != nil {
		return err
	}
	return failure{exitError, fmt.Sprintf("%s cannot be woken by itself: it runs while %s needs it", s.name, strings.Join(by, " or ")), hint}
}

// needHint is what a file has to say that needs the container.
func (s *service) needHint() string {
	return fmt.Sprintf("add Requires=%s.service and After=%[1]s.service to [Unit] of the file that needs it", s.name)
}

// unneeded fails if a dependency is needed.
func (c *call) unneeded(ctx context.Context, s *service) error {
	by, err := c.heldBy(ctx, s)
	if err != nil || len(by) == 0 {
		return err
	}
	hint, err := c.insteadOf(ctx, by[0], "sleep", "stop")
	if err != nil {
		return err
	}
	return failure{exitError, fmt.Sprintf("%s stays up: %s needs it", s.name, strings.Join(by, ", ")), hint}
}

// insteadOf is the command for the unit that needs a dependency: ours if it has
// a port, else systemd's.
func (c *call) insteadOf(ctx context.Context, unit, verb, job string) (string, error) {
	name := strings.TrimSuffix(unit, ".service")
	sockets, err := c.systemd().Units(ctx, wire.Socket.Of(name))
	if err != nil {
		return "", err
	}
	if generated(sockets[0]) {
		return fmt.Sprintf("zerolet %s --%s %s", verb, c.manager, name), nil
	}
	return fmt.Sprintf("systemctl --%s %s %s", c.manager, job, unit), nil
}
