package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// place is what systemd runs before the container's start (generator/place.go).
func (c *call) place(ctx context.Context) (int, error) {
	count, err := generator.Places(c.getenv, c.processors)
	switch {
	case err != nil:
		return exitUsage, failure{exitUsage, fmt.Sprintf("%s: %v", generator.StartsVariable, err), "write it as 8 or infinity"}
	case count == generator.Unbounded:
		return exitOK, nil
	}
	dir := "/run"
	if c.manager == quadlet.User {
		dir = c.getenv("XDG_RUNTIME_DIR")
	}
	places := service.Places{Host: c.host(), File: filepath.Join(dir, wire.Starts), Count: count}
	return exitOK, places.Take(ctx, c.names[0], c.getenv("INVOCATION_ID"), func() {
		_ = c.printf("waits for a place: many others start\n") // into the journal
	})
}
