package podman

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
)

// A container that sleeps is none for Podman, and "podman prune" removes what it
// uses: its image, and with Podman before 6 its volumes and their data. A keeper is
// a container that uses the same, and never starts. Alone it would be pruned itself.
// In a pod it is not: "container prune" passes by members of pods, and "pod prune"
// by pods whose containers have never run (PruneContainers and PrunePods in Podman's
// libpod, 4.3 to 6.0).

const (
	// label has the unit's name; by it a keeper is known.
	label = "io.zerolet.keeps"
	// coming marks the keeper of an image that has not run yet, beside that of the
	// one before.
	coming = "-next"
	// never is where no image has a program: somebody may start all containers.
	never = "/kept/by/zerolet"
)

// Use is what the container of a unit uses.
type Use struct {
	Unit    string   // without ".service"
	Image   string   // or a directory, with Rootfs
	Rootfs  bool     // podman-run(1)
	Volumes []string // with a name
}

// Keep has a keeper for the unit that uses this and nothing else. It makes no
// volume: that is the unit's to do, which may want options for it.
func Keep(ctx context.Context, u Use) error { return keep(ctx, u, name(u.Unit)) }

// KeepNext has a second one for an image that the unit has not used yet.
func KeepNext(ctx context.Context, u Use) error {
	u.Volumes = nil
	return keep(ctx, u, name(u.Unit)+coming)
}

func keep(ctx context.Context, u Use, name string) error {
	if err := haveVolumes(ctx, u); err != nil {
		return err
	}
	keepers, err := keepersOf(ctx, u.Unit)
	if err != nil {
		return err
	}
	pod, err := podOf(ctx, keepers)
	if err != nil {
		return err
	}
	args := []string{
		"create", "--quiet", "--pull=never", "--pod=" + pod, "--name=" + name, "--label=" + label + "=" + u.Unit,
		"--network=none", "--image-volume=ignore", "--entrypoint=" + never,
	}
	if slices.ContainsFunc(keepers, func(k keeper) bool { return slices.Contains(k.Names, name) }) {
		args = append(args, "--replace")
	}
	for i, volume := range u.Volumes {
		args = append(args, fmt.Sprintf("--volume=%s:/kept/%d", volume, i))
	}
	if u.Rootfs {
		args = append(args, "--rootfs")
	}
	_, err = run(ctx, append(args, "--", u.Image)...)
	return err
}

// podOf is the pod that some keepers are in, or else all are to be in.
func podOf(ctx context.Context, some []keeper) (string, error) {
	for _, k := range some {
		if k.Pod != "" {
			return k.Pod, nil
		}
	}
	ours, err := pods(ctx)
	if err != nil || len(ours) > 0 {
		return first(ours), err
	}
	create := []string{"pod", "create", "--infra=false", "--share=", "--share-parent=false", "--label=" + wire.KeepersLabel + "="}
	id, err := run(ctx, append(create, "--name="+wire.Keepers)...)
	if err != nil { // another process has just made it, or somebody else's has the name
		if ours, _ := pods(ctx); len(ours) > 0 {
			return first(ours), nil
		}
		id, err = run(ctx, create...)
	}
	return first(strings.Fields(string(id))), err
}

// pods are those of keepers, known by their label: somebody else's may have the name.
func pods(ctx context.Context) ([]string, error) {
	out, err := run(ctx, "pod", "ls", "--quiet", "--filter=label="+wire.KeepersLabel)
	return strings.Fields(string(out)), err
}

func first(words []string) string { return strings.Join(words[:min(1, len(words))], "") }

// name is that of the unit's keeper. A container's has fewer characters than a
// unit's.
func name(unit string) string {
	plain := regexp.MustCompile(`[^a-zA-Z0-9_.-]`).ReplaceAllString(unit, "_")
	sum := sha256.Sum256([]byte(unit))
	return wire.Keepers + "-" + plain + "-" + hex.EncodeToString(sum[:4])
}

// keeper is one as Podman lists it.
type keeper struct {
	ID      string `json:"Id"`
	Names   []string
	ImageID string
	Pod     string
	Labels  map[string]string
}

// next reports whether it is one of [KeepNext].
func (k keeper) next() bool { return slices.Contains(k.Names, name(k.Labels[label])+coming) }

// keepersOf are those of a unit, or all.
func keepersOf(ctx context.Context, unit string) (all []keeper, err error) {
	filter := "--filter=label=" + label
	if unit != "" {
		filter += "=" + unit
	}
	out, err := run(ctx, "ps", "--all", "--no-trunc", filter, "--format=json")
	if err != nil || len(bytes.TrimSpace(out)) == 0 {
		return nil, err
	}
	if err := json.Unmarshal(out, &all); err != nil {
		return nil, fmt.Errorf("podman ps: %w", err)
	}
	return all, nil
}

// Kept are the units that have a keeper, and the ID of the image of each; of a directory
// there is none.
func Kept(ctx context.Context) (map[string]string, error) {
	all, err := keepersOf(ctx, "")
	kept := make(map[string]string)
	for _, k := range all {
		if !k.next() {
			kept[k.Labels[label]] = k.ImageID
		}
	}
	return kept, err
}

// HasVolumes reports whether there are the volumes that a unit uses: before its first
// wake there may be nothing to keep.
func HasVolumes(ctx context.Context, u Use) bool { return haveVolumes(ctx, u) == nil }

// HasImage reports whether there is the image that a unit uses.
func HasImage(ctx context.Context, u Use) bool {
	if u.Rootfs {
		return true
	}
	_, err := run(ctx, "image", "exists", "--", u.Image)
	return err == nil
}

func haveVolumes(ctx context.Context, u Use) error {
	if len(u.Volumes) == 0 {
		return nil
	}
	_, err := run(ctx, append([]string{"volume", "inspect", "--format={{.Name}}", "--"}, u.Volumes...)...)
	return err
}

// Forget lets go of what was kept for a unit.
func Forget(ctx context.Context, unit string) error {
	return forget(ctx, unit, func(keeper) bool { return true })
}

// ForgetNext lets go of what [KeepNext] keeps.
func ForgetNext(ctx context.Context, unit string) error { return forget(ctx, unit, keeper.next) }

func forget(ctx context.Context, unit string, which func(keeper) bool) error {
	all, err := keepersOf(ctx, unit)
	args := []string{"rm", "--ignore", "--"}
	for _, k := range all {
		if which(k) {
			args = append(args, k.ID)
		}
	}
	if err == nil && len(args) > 3 {
		_, err = run(ctx, args...)
	}
	return err
}

// ForgetAll leaves nothing of what was kept.
func ForgetAll(ctx context.Context) error {
	ours, err := pods(ctx)
	if err == nil && len(ours) > 0 {
		_, err = run(ctx, append([]string{"pod", "rm", "--force"}, ours...)...)
	}
	return err
}
