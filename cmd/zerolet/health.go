package main

import (
	"context"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/podman"
)

// health is what systemd runs beside the start of a container whose health is waited
// for (generator/health.go): the service's name, and the command that asks.
func (c *call) health(ctx context.Context) (int, error) {
	if len(c.names) < 2 {
		return exitUsage, usage("health needs a unit and a command")
	}
	unit, command := c.names[0], c.names[1:]
	return exitOK, c.host().WhileStarts(ctx, unit, func() bool { return podman.Passes(ctx, command) })
}
