package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// restHead begins the table of what a frozen app takes.
const restHead = "CPU: processor time in ms in 10 s frozen, of the app, of what Podman has beside it, and of the proxy. Memory in MiB: PSS, of " +
	"the app's processes awake, frozen and after reclaim, and what of them is in swap then; the same of their cgroup, as " +
	"`zerolet status --json` tells; the proxy's own. –: this machine counts no memory in cgroups of version 2, and so " +
	"reclaims none there.\n\n" +
	"| manager | app | CPU: app | beside | proxy | PSS awake | frozen | swap | cgroup awake | frozen | proxy's own |\n" +
	"|---|---|---|---|---|---|---|---|---|---|---|\n"

// atRest is what a frozen app takes.
type atRest struct {
	app, beside, proxy time.Duration // of processors
	awake, frozen      residence
	before, after      int64 // of the cgroup, in bytes; 0: not known
	own                int64 // the proxy's
}

// residence is where the memory of processes is, in bytes.
type residence struct{ resident, swapped int64 }

func (r atRest) String() string {
	mib := func(bytes int64) string { return fmt.Sprintf("%.1f", float64(bytes)/(1<<20)) }
	counted := func(bytes int64) string {
		if bytes == 0 {
			return "–"
		}
		return mib(bytes)
	}
	return fmt.Sprintf("%.1f | %.1f | %.1f | %s | %s | %s | %s | %s | %s", ms(r.app), ms(r.beside), ms(r.proxy),
		mib(r.awake.resident), mib(r.frozen.resident), mib(r.frozen.swapped), counted(r.before), counted(r.after), mib(r.own))
}

// rest measures it: first where nothing is reclaimed, as in the rounds before.
func (f *measured) rest(ctx context.Context) (r atRest, err error) {
	if err := f.awaitFrozen(ctx); err != nil {
		return r, err
	}
	unit, err := f.group(ctx, f.service+".service")
	if err != nil {
		return r, err
	}
	proxy, err := f.group(ctx, f.service+"-proxy.service")
	if err != nil {
		return r, err
	}
	payload := filepath.Join(unit, "libpod-payload-*")
	before := []time.Duration{used(payload), used(unit), used(proxy)}
	select {
	case <-ctx.Done():
		return r, ctx.Err()
	case <-time.After(10 * time.Second):
	}
	r.app, r.proxy = used(payload)-before[0], used(proxy)-before[2]
	r.beside = used(unit) - before[1] - r.app
	return r, f.reclaimed(ctx, &r)
}

// reclaimed measures the memory of one that is reclaimed once it is frozen.
func (f *measured) reclaimed(ctx context.Context, r *atRest) error {
	if _, err := f.session.Run(ctx, "zerolet", "sleep", "--force", f.service); err != nil {
		return err
	}
	if err := f.put(ctx, "IdleTimeout=5s"); err != nil { // for the look at it while it is awake
		return err
	}
	if _, err := f.session.Run(ctx, "zerolet", "apply"); err != nil {
		return err
	}
	told, err := f.freezes(ctx)
	if err != nil {
		return err
	}
	var ignored sample
	if err := f.ask(ctx, f.port, &ignored); err != nil {
		return err
	}
	unit, err := f.group(ctx, f.service+".service")
	if err != nil {
		return err
	}
	payload, err := filepath.Glob(filepath.Join(unit, "libpod-payload-*"))
	if err != nil || len(payload) != 1 {
		return fmt.Errorf("%s: %d containers, %w", unit, len(payload), err)
	}
	if r.awake, err = memoryOf(payload[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for now := told; now == told; { // which it tells when memory has been reclaimed
		if err := moment(ctx); err != nil {
			return fmt.Errorf("%s is not frozen: %w", f.service, err)
		}
		if now, err = f.freezes(ctx); err != nil {
			return err
		}
	}
	if r.frozen, err = memoryOf(payload[0]); err != nil {
		return err
	}
	if r.before, r.after, err = f.told(ctx); err != nil {
		return err
	}
	proxy, err := f.group(ctx, f.service+"-proxy.service")
	if err != nil {
		return err
	}
	r.own, err = sumOf(proxy, "Private_Dirty")
	return err
}

// freezes is how often it was frozen so far.
func (f *measured) freezes(ctx context.Context) (int, error) {
	text, err := f.session.Journal(ctx, f.service+"-proxy.service")
	return strings.Count(text, f.service+".service is frozen"), err
}

// told is the memory of which zerolet tells.
func (f *measured) told(ctx context.Context) (before, after int64, err error) {
	out, err := f.session.Run(ctx, "zerolet", "status", "--json")
	if err != nil {
		return 0, 0, err
	}
	var status struct {
		Services []struct {
			Name   string
			Memory struct{ Before, After int64 }
		}
	}
	err = json.Unmarshal([]byte(out.Stdout), &status)
	for _, s := range status.Services {
		if s.Name == f.service {
			before, after = s.Memory.Before, s.Memory.After
		}
	}
	return before, after, err
}

// memoryOf is what the processes of a cgroup, and of those below, have: a page that others have, too, in parts.
func memoryOf(group string) (m residence, err error) {
	if m.resident, err = sumOf(group, "Pss"); err != nil {
		return m, err
	}
	m.swapped, err = sumOf(group, "SwapPss")
	return m, err
}

// sumOf adds up a field of smaps_rollup (proc_pid_smaps(5)) of these processes.
func sumOf(group, field string) (sum int64, err error) {
	err = filepath.WalkDir(group, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "cgroup.procs" {
			return err
		}
		pids, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, pid := range strings.Fields(string(pids)) {
			text, _ := os.ReadFile(filepath.Join("/proc", pid, "smaps_rollup")) // of one that has ended it is nothing
			for line := range strings.Lines(string(text)) {
				if value, ok := strings.CutPrefix(line, field+":"); ok {
					kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
					sum += kib << 10
				}
			}
		}
		return nil
	})
	return sum, err
}

// used is the processor time of the one cgroup of a pattern so far.
func used(pattern string) time.Duration {
	groups, _ := filepath.Glob(pattern) // no error for these
	if len(groups) != 1 {
		return 0
	}
	text, _ := os.ReadFile(filepath.Join(groups[0], "cpu.stat")) // of none it is nothing
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "usage_usec "); ok {
			us, _ := strconv.ParseInt(value, 10, 64)
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}
