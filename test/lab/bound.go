package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bound is how many bounded machines this host has at once, see [Options.Bounded]. Their tests wait more than they
// compute: three for each processor keep it busy. Each has to have a gibibyte. And each takes inotify instances, of
// which a user of the host has so many, in whatever machine (inotify(7)): systemd has five, and fails without; with 16
// for each machine, others have what they need.
func Bound() int {
	bound := 3 * runtime.NumCPU()
	var memory unix.Sysinfo_t
	if unix.Sysinfo(&memory) == nil {
		bound = min(bound, int(memory.Totalram*uint64(memory.Unit)>>30))
	}
	if text, err := os.ReadFile("/proc/sys/fs/inotify/max_user_instances"); err == nil {
		if instances, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			bound = min(bound, instances/16)
		}
	}
	return max(bound, 1)
}

// takePlace waits until there are fewer than Bound bounded machines. The place lasts until the file is closed, or
// the process ends.
func takePlace(ctx context.Context, cache string) (*os.File, error) {
	dir := filepath.Join(cache, "places")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Who comes first looks for a place, the others queue up behind: a machine's life is long.
	queue, err := lock(filepath.Join(dir, "queue.lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer queue.Close()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		for n := range Bound() {
			place, err := lock(filepath.Join(dir, fmt.Sprintf("%d.lock", n)), unix.LOCK_EX|unix.LOCK_NB)
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return place, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-again.C:
		}
	}
}
