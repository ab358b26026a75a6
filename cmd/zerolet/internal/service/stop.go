package service

import (
	"context"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
)

// StopTimeout is the TimeoutStopSec= of a service, at most longest, which is also
// what it is taken for if the manager does not tell.
func (h Host) StopTimeout(ctx context.Context, unit string, longest time.Duration) time.Duration {
	const property = "TimeoutStopUSec"
	bus, err := h.Connect(ctx)
	if err != nil {
		return longest
	}
	defer bus.Close()
	service := make(systemd.Unit)
	if err := bus.Fill(ctx, []systemd.Wanted{{Name: unit, Properties: []string{property}, Into: service}}); err != nil {
		return longest
	}
	return service.Span(property, longest)
}
