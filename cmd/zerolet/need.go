package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// notAlone says why a dependency cannot be woken: systemd would stop at once
// what nobody needs.
func (c *call) notAlone(ctx context.Context, s *service.Service) error {
	by := s.Others()
	if len(by) == 0 {
		return failure{exitError, s.Name + " cannot be woken: it has no port, and nothing needs it", needHint(s)}
	}
	hint, err := c.insteadOf(ctx, by[0], "wake", "start")
	if err != nil {
		return err
	}
	return failure{exitError, fmt.Sprintf("%s cannot be woken by itself: it runs while %s needs it", s.Name, strings.Join(by, " or ")), hint}
}

// needHint is what a file has to say that needs the container.
func needHint(s *service.Service) string {
	return fmt.Sprintf("add Requires=%s.service and After=%[1]s.service to [Unit] of the file that needs it", s.Name)
}

// unneeded fails if a dependency is needed.
func (c *call) unneeded(ctx context.Context, s *service.Service) error {
	by := s.HeldBy
	if len(by) == 0 {
		return nil
	}
	hint, err := c.insteadOf(ctx, by[0], "sleep", "stop")
	if err != nil {
		return err
	}
	return failure{exitError, fmt.Sprintf("%s stays up: %s needs it", s.Name, strings.Join(by, ", ")), hint}
}

// insteadOf is the command for the unit that needs a dependency: ours if it has
// a port, else systemd's.
func (c *call) insteadOf(ctx context.Context, unit, verb, job string) (string, error) {
	name := strings.TrimSuffix(unit, ".service")
	all, err := c.look(ctx, service.Standing)
	if err != nil {
		return "", err
	}
	if s := all.Named(name); s != nil && service.Generated(s.Socket) {
		return c.typed(name, verb), nil
	}
	return c.systemctl(unit, job), nil
}
