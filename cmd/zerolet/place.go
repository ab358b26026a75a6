package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// startsVariable is how an administrator says how many containers start at a time.
const startsVariable = "ZEROLET_STARTS"

// place is what systemd runs before the container's start (generator/place.go).
func (c *call) place(ctx context.Context) (int, error) {
	count, bound, err := c.starts()
	if err != nil || !bound {
		return exitOK, err
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

// starts is how many containers start at a time, if it is bounded.
func (c *call) starts() (count int, bound bool, err error) {
	const perProcessor = 4 // a start waits for much else: with two a busy machine lets them have too little
	switch v := c.getenv(startsVariable); v {
	case "":
		return perProcessor * runtime.NumCPU(), true, nil
	case "infinity":
		return 0, false, nil
	default:
		count, err = strconv.Atoi(v)
		if err != nil || count < 1 {
			return 0, false, failure{exitUsage, fmt.Sprintf("%s=%s is no number of starts", startsVariable, v), "write it as 8 or infinity"}
		}
		return count, true, nil
	}
}
