package podman

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	keepers = wire.Keepers
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
	args := []string{
		"create", "--replace", "--quiet", "--pull=never", "--pod=" + keepers, "--name=" + name, "--label=" + label + "=" + u.Unit,
		"--network=none", "--image-volume=ignore", "--entrypoint=" + never,
	}
	for i, volume := range u.Volumes {
		args = append(args, fmt.Sprintf("--volume=%s:/kept/%d", volume, i))
	}
	if u.Rootfs {
		args = append(args, "--rootfs")
	}
	args = append(args, "--", u.Image)
	_, err := run(ctx, args...)
	if err == nil {
		return nil
	}
	if _, exists := run(ctx, "pod", "exists", keepers); exists == nil {
		return err
	}
	// No other has made it, or one just has: then this fails, and the next does not.
	_, pod := run(ctx, "pod", "create", "--infra=false", "--share=", "--share-parent=false",
		"--label="+wire.KeepersLabel+"=", "--name="+keepers)
	if _, err = run(ctx, args...); err != nil {
		return errors.Join(err, pod)
	}
	return nil
}

// name is that of the unit's keeper. A container's has fewer characters than a
// unit's.
func name(unit string) string {
	plain := regexp.MustCompile(`[^a-zA-Z0-9_.-]`).ReplaceAllString(unit, "_")
	sum := sha256.Sum256([]byte(unit))
	return keepers + "-" + plain + "-" + hex.EncodeToString(sum[:4])
}

// Kept are the units that have a keeper, and the ID of the image of each.
func Kept(ctx context.Context) (map[string]string, error) {
	out, err := run(ctx, "ps", "--all", "--filter=label="+label, "--format=json")
	if err != nil {
		return nil, err
	}
	var all []struct {
		Names   []string
		ImageID string
		Labels  map[string]string
	}
	if err := json.Unmarshal(out, &all); err != nil && len(bytes.TrimSpace(out)) > 0 {
		return nil, fmt.Errorf("podman ps: %w", err)
	}
	kept := make(map[string]string)
	for _, c := range all {
		if !slices.Contains(c.Names, name(c.Labels[label])+coming) {
			kept[c.Labels[label]] = c.ImageID
		}
	}
	return kept, nil
}

// Keepable reports whether there is all that a unit uses: before its first wake
// there may be nothing to keep.
func Keepable(ctx context.Context, u Use) bool {
	if haveVolumes(ctx, u) != nil {
		return false
	}
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
	_, err := run(ctx, "rm", "--ignore", "--", name(unit), name(unit)+coming)
	return err
}

// ForgetNext lets go of what [KeepNext] keeps.
func ForgetNext(ctx context.Context, unit string) error {
	_, err := run(ctx, "rm", "--ignore", "--", name(unit)+coming)
	return err
}

// ForgetAll leaves nothing of what was kept.
func ForgetAll(ctx context.Context) error {
	ours, err := run(ctx, "pod", "ls", "--quiet", "--filter=label="+wire.KeepersLabel)
	if pods := strings.Fields(string(ours)); err == nil && len(pods) > 0 {
		_, err = run(ctx, append([]string{"pod", "rm", "--force"}, pods...)...)
	}
	return err
}
