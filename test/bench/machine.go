package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/test/lab"
)

// machine says where the figures come from.
func machine() string {
	cpu := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				cpu = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	var u unix.Utsname
	kernel := "unknown kernel"
	if unix.Uname(&u) == nil {
		kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	return fmt.Sprintf("%d × %s, %s, %s", runtime.NumCPU(), cpu, kernel, runtime.Version())
}

// booted is a machine with zerolet.
func booted(ctx context.Context) (*lab.Machine, error) {
	dir, err := os.MkdirTemp("", "zerolet-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if text, err := exec.CommandContext(ctx, "make", "-C", "..", "install", "DESTDIR="+dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make install: %w\n%s", err, text)
	}
	m, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return nil, err
	}
	if err := m.Install(ctx, dir); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// sample are the measurements of one thing, one for each round.
type sample []time.Duration

func (s sample) at(quantile float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(quantile*float64(len(sorted)-1)+0.5)]
}

func (s sample) median() time.Duration { return s.at(0.5) }

// String is the median and the quartiles in milliseconds.
func (s sample) String() string {
	text := func(d time.Duration) string {
		return fmt.Sprintf("%.*f", map[bool]int{true: 0, false: 1}[d >= 100*time.Millisecond], ms(d))
	}
	return fmt.Sprintf("%s (%s–%s)", text(s.median()), text(s.at(0.25)), text(s.at(0.75)))
}

// ms is a time in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
