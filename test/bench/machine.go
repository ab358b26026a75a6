package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// sample are the measurements of one thing, one for each round.
type sample []time.Duration

func (s sample) at(quantile float64) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[int(quantile*float64(len(sorted)-1)+0.5)]
}

func (s sample) median() time.Duration { return s.at(0.5) }

// String is the median and the quartiles in milliseconds.
func (s sample) String() string {
	ms := func(d time.Duration) string {
		return fmt.Sprintf("%.*f", map[bool]int{true: 0, false: 1}[d >= 100*time.Millisecond], float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%s (%s–%s)", ms(s.median()), ms(s.at(0.25)), ms(s.at(0.75)))
}
