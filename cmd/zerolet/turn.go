package main

import (
	"context"
	"strings"
)

// turn is what systemd runs first in a container's service with Exclusive=. The
// first name is that of the service, the others are those of its rivals.
func (c *call) turn(ctx context.Context) (int, error) {
	needed, err := c.host().AwaitTurn(ctx, c.names[0], c.names[1:], func(before []string) {
		_ = c.printf("waits for its turn (%s): %s\n", c.group, inTheWay(before)) // into the journal
	})
	switch {
	case ctx.Err() != nil: // its start is taken back, which is no failure
		return exitError, nil
	case err != nil:
		return failedTurn, failure{failedTurn, err.Error(), ""}
	case !needed:
		return exitError, nil // systemd skips what else there is in the service (systemd.service(5), ExecCondition=)
	}
	return exitOK, nil
}

// failedTurn has the service fail.
const failedTurn = 255

// inTheWay tells what others wait for.
func inTheWay(names []string) string {
	if len(names) == 1 {
		return names[0] + " is awake"
	}
	return strings.Join(names, " and ") + " are before it"
}
