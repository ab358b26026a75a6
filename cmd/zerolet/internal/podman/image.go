package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
)

// Image is one that Podman has.
type Image struct {
	ID      string
	Digests []string // of its manifests, in any registry
}

// Local is the image that a name stands for here.
func Local(ctx context.Context, name string) (Image, error) {
	out, err := run(ctx, "image", "inspect", "--", name)
	if err != nil {
		return Image{}, err
	}
	var all []struct {
		ID          string `json:"Id"`
		Digest      string
		RepoDigests []string
	}
	if err := json.Unmarshal(out, &all); err != nil || len(all) == 0 {
		return Image{}, fmt.Errorf("podman image inspect tells nothing of %s", name)
	}
	image := Image{ID: all[0].ID, Digests: []string{all[0].Digest}}
	for _, digest := range all[0].RepoDigests {
		_, digest, _ = strings.Cut(digest, "@")
		image.Digests = append(image.Digests, digest)
	}
	return image, nil
}

// lists counts those that this process has made.
var lists atomic.Int64

// Remote are the digests of the image that its registry has for a name and this
// machine. Nothing is pulled: Podman adds the manifest to a list, for which it gets
// no more than that.
func Remote(ctx context.Context, name, authfile string, process int) ([]string, error) {
	list := fmt.Sprintf("localhost/zerolet-update:%d-%d", process, lists.Add(1))
	if _, err := run(ctx, "manifest", "create", list); err != nil {
		return nil, err
	}
	defer run(context.WithoutCancel(ctx), "manifest", "rm", list) //nolint:errcheck // it is empty, and pruned with the others
	add := []string{"manifest", "add"}
	if authfile != "" {
		add = append(add, "--authfile="+authfile)
	}
	if _, err := run(ctx, append(add, list, "docker://"+name)...); err != nil {
		return nil, err
	}
	out, err := run(ctx, "manifest", "inspect", list)
	if err != nil {
		return nil, err
	}
	var found struct {
		Manifests []struct{ Digest string }
	}
	if err := json.Unmarshal(out, &found); err != nil || len(found.Manifests) == 0 {
		return nil, fmt.Errorf("podman manifest inspect tells nothing of %s", name)
	}
	var digests []string
	for _, m := range found.Manifests {
		digests = append(digests, m.Digest)
	}
	return digests, nil
}

// Pull gets the image that its registry has for a name.
func Pull(ctx context.Context, name, authfile string) error {
	args := []string{"pull", "--quiet"}
	if authfile != "" {
		args = append(args, "--authfile="+authfile)
	}
	_, err := run(ctx, append(args, "--", name)...)
	return err
}

// Tag has a name stand for another image that is here.
func Tag(ctx context.Context, id, name string) error {
	_, err := run(ctx, "tag", "--", id, name)
	return err
}
