package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/podman"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// What became of one service.
const (
	updated  = "updated" // its next wake starts the newer image
	newer    = "newer"   // there is one, and nothing was done
	upToDate = "current"
	isAwake  = "awake"   // podman auto-update looks after it
	leftOut  = "refused" // the newer image has failed before
	notKnown = "failed"
)

// sideBySide is how many registries are asked at a time.
const sideBySide = 4

// pullTimeout bounds a pull whose registry has answered.
const pullTimeout = time.Hour

// updatesReport is what update --json prints; docs/json.md describes it.
type updatesReport struct {
	Version  int             `json:"version"`
	Services []*updateReport `json:"services"`
}

// updateReport is a service of it.
type updateReport struct {
	Name   string `json:"name"`
	Image  string `json:"image"`
	Policy string `json:"policy"`
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
}

// update gets newer images of what sleeps and has AutoUpdate=. What is awake is
// podman auto-update's.
func (c *call) update(ctx context.Context) (int, error) {
	span, err := scale.ParseSpan(c.timeout)
	if err != nil || span <= 0 {
		return exitUsage, failure{exitUsage, fmt.Sprintf("--timeout=%s is not a time span", c.timeout), "write it as 30s or 5min"}
	}
	plan, _, err := c.plan(ctx)
	if err != nil {
		return exitUsage, err
	}
	all, err := c.look(ctx, service.Standing)
	if err != nil {
		return exitFailure, err
	}
	if !c.dryRun { // what a pull is about to replace is kept
		if _, err := keepMissing(ctx, plan); err != nil {
			return exitFailure, err
		}
	}
	kept, err := podman.Kept(ctx)
	if err != nil {
		return exitFailure, err
	}
	u := updating{c, kept, span.Duration()}
	reports := u.all(ctx, plan, all)
	if err := c.printUpdates(reports); err != nil {
		return exitFailure, err
	}
	if slices.ContainsFunc(reports, func(r *updateReport) bool { return r.Result == notKnown }) {
		return exitError, nil
	}
	return exitOK, nil
}

// updating is one that is under way.
type updating struct {
	*call
	kept    map[string]string // the images before
	timeout time.Duration     // of a registry's answer
}

// all asks for all services, each by itself: a registry that does not answer is a
// matter of its own services.
func (u updating) all(ctx context.Context, plan *generator.Plan, all *service.All) []*updateReport {
	reports := []*updateReport{}
	var wg sync.WaitGroup
	places := make(chan struct{}, sideBySide)
	for _, use := range usesOf(plan) {
		if use.refused || use.update.Policy == "" {
			continue
		}
		r := &updateReport{Name: use.Unit, Image: use.Image, Policy: use.update.Policy}
		reports = append(reports, r)
		if s := all.Named(use.Spec.Unit); s != nil && !s.Container.Is("inactive", "failed") {
			r.Result = isAwake
			continue
		}
		wg.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			var err error
			if r.Result, err = u.one(ctx, use); err != nil {
				r.Result, r.Error = notKnown, err.Error()
			}
		})
	}
	wg.Wait()
	return reports
}

// one gets the newer image of one service, if there is one, and notes which one was
// before it. To one that is missing every image is newer.
func (u updating) one(ctx context.Context, use use) (string, error) {
	if !use.known {
		return "", fmt.Errorf("only systemd knows the name of its image, %s", use.Image)
	}
	here, err := podman.Local(ctx, use.Image)
	if err != nil && use.update.Policy != "registry" {
		return "", err
	}
	before, last := cmp.Or(u.kept[use.Unit], here.ID), u.lastAttempt(use.Unit)
	if use.update.Policy == "registry" {
		there, err := u.remote(ctx, use.Image, use.update.AuthFile)
		switch {
		case err != nil:
			return "", err
		case !overlap(there, here.Digests) && last.Failed && overlap(there, last.Digests):
			return leftOut, nil
		case !overlap(there, here.Digests) && u.dryRun:
			return newer, nil
		case !overlap(there, here.Digests):
			if here, err = pull(ctx, use.Image, use.update.AuthFile); err != nil {
				return "", err
			}
		}
	}
	switch {
	case before == "": // with nothing to go back to
		_ = podman.Keep(ctx, use.Use) // the doctor tells
		return updated, nil
	case here.ID == before:
		return upToDate, nil
	case here.ID == last.New && last.Failed:
		return leftOut, nil
	case here.ID == last.New:
		return updated, nil
	case u.dryRun:
		return newer, nil
	}
	err = u.begin(use.Unit, attempt{Image: use.Image, Old: before, New: here.ID, Digests: here.Digests, Rollbacks: last.Rollbacks})
	if err == nil {
		err = podman.KeepNext(ctx, use.Use)
	}
	return updated, err
}

// remote asks the registry. Podman tries a few times itself.
func (u updating) remote(ctx context.Context, image, authfile string) ([]string, error) {
	if !fullName(image) {
		return nil, fmt.Errorf("%s is not the full name of an image: write it as docker.io/library/%[1]s", image)
	}
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	there, err := podman.Remote(ctx, image, authfile, os.Getpid())
	if ctx.Err() != nil && err != nil {
		return nil, fmt.Errorf("its registry has not answered within %s", scale.Span(u.timeout))
	}
	return there, err
}

// pull gets an image whose registry has answered.
func pull(ctx context.Context, image, authfile string) (podman.Image, error) {
	ctx, cancel := context.WithTimeout(ctx, pullTimeout)
	defer cancel()
	if err := podman.Pull(ctx, image, authfile); err != nil {
		return podman.Image{}, err
	}
	return podman.Local(ctx, image)
}

// fullName reports whether a name begins with that of a registry, as Podman asks
// for with AutoUpdate=registry (podman-auto-update(1)).
func fullName(image string) bool {
	registry, _, found := strings.Cut(image, "/")
	return found && (strings.ContainsAny(registry, ".:") || registry == "localhost")
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return s != "" && slices.Contains(b, s) })
}

func (c *call) printUpdates(reports []*updateReport) error {
	if c.json {
		return c.printJSON(updatesReport{1, reports})
	}
	if len(reports) == 0 {
		return c.printf("no scaled container has AutoUpdate=\n")
	}
	texts := map[string]string{
		updated: "its next wake starts the newer image", newer: "there is a newer image", upToDate: "up to date",
		isAwake: "awake: podman auto-update looks after it", leftOut: "the newer image has failed before, and is left out",
	}
	for _, r := range reports {
		text := quadlet.Printable(cmp.Or(r.Error, texts[r.Result]))
		if err := c.printf("%s: %s\n", r.Name, text); err != nil {
			return err
		}
	}
	return nil
}
