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

// Held tells of each group of units whether another unit that runs, and that is not
// about to be stopped itself, keeps one of them up.
func (h Host) Held(ctx context.Context, groups [][]string) ([]bool, error) {
	found, err := h.states(ctx, slices.Concat(groups...), systemd.Dependents)
	if err != nil {
		return nil, err
	}
	return held(found, groups), nil
}

func held(found map[string]systemd.Unit, groups [][]string) []bool {
	held := make([]bool, len(groups))
	stays := func(by string) bool {
		grouped := false
		for i, units := range groups {
			if slices.Contains(units, by) {
				grouped = true
				if held[i] {
					return true
				}
			}
		}
		return !grouped && found[by].Is("active", "activating", "reloading")
	}
	for more := true; more; {
		more = false
		for i, units := range groups {
			if !held[i] && slices.ContainsFunc(units, func(name string) bool { return slices.ContainsFunc(found[name].Needs(), stays) }) {
				held[i], more = true, true
			}
		}
	}
	return held
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
