package service

import (
	"context"
	"slices"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
)

// InTheWay are those of the units that run as stock Quadlet made them, with the
// ports that Podman publishes, or are about to have stopped.
func (h Host) InTheWay(ctx context.Context, units []string) ([]string, error) {
	found, err := h.states(ctx, units, append([]string{"SourcePath"}, origin...))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(units), func(name string) bool {
		u := found[name]
		stock := stockMade(u) && u.Is("active", "activating", "reloading")
		return !stock && !u.Is("deactivating")
	}), nil
}

// Held reports whether another unit that runs keeps one of these up.
func (h Host) Held(ctx context.Context, units []string) (bool, error) {
	found, err := h.states(ctx, units, systemd.Dependents)
	if err != nil {
		return false, err
	}
	for _, name := range units {
		for _, by := range found[name].Needs() {
			if !slices.Contains(units, by) && found[by].Is("active", "activating", "reloading") {
				return true, nil
			}
		}
	}
	return false, nil
}

// states are all units in the manager's memory, with more of those that are named.
func (h Host) states(ctx context.Context, units, properties []string) (map[string]systemd.Unit, error) {
	bus, err := h.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	loaded, err := bus.Loaded(ctx)
	if err != nil {
		return nil, err
	}
	var wanted []systemd.Wanted
	for _, name := range units {
		if loaded[name] != nil {
			wanted = append(wanted, systemd.Wanted{Name: name, Properties: properties, Into: loaded[name]})
		}
	}
	return loaded, bus.Fill(ctx, wanted)
}
