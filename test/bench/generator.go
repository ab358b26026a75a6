package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	inside       = "-inside" // the bench runs itself with it in a mount namespace of its own
	stockVersion = "5.8.2"
	rounds       = 21
	manyRounds   = 301 // where nothing but the start of a program is measured
	// libexec holds podman/quadlet, where zerolet looks for the machine's own.
	libexec = "/usr/libexec"
)

// generator measures what zerolet adds to a daemon-reload: its generator
// against stock Quadlet's on the same files.
func generator(ctx context.Context, _ ...string) (string, error) {
	work, err := os.MkdirTemp("", "zerolet-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	empty := filepath.Join(work, "empty.go")
	if err := os.WriteFile(empty, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return "", err
	}
	for out, build := range map[string][]string{
		"empty":                    {"..", empty},
		"zerolet-system-generator": {"..", "./cmd/zerolet-generator"},
		"quadlet":                  {"oracle/podman-" + stockVersion, "github.com/containers/podman/v5/cmd/quadlet"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(work, out), build[1])
		cmd.Dir, cmd.Stderr, cmd.Env = build[0], os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self, inside, work)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	text, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) {
		err = errors.New("it needs root, for a mount namespace")
	}
	return string(text), err
}

// insideGenerator has the stock Quadlet where the machine's own would be, and
// everything in memory, as systemd has a generator's output and /tmp.
func insideGenerator(ctx context.Context, work string) error {
	tmp, err := os.MkdirTemp("", "zerolet-bench-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	for _, mount := range []string{tmp, libexec} {
		if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	defer syscall.Unmount(tmp, 0) //nolint:errcheck // the mount ends with the namespace
	quadlet := filepath.Join(libexec, "podman/quadlet")
	data, err := os.ReadFile(filepath.Join(work, "quadlet"))
	if err != nil {
		return err
	}
	if err := errors.Join(os.Mkdir(filepath.Dir(quadlet), 0o755), os.WriteFile(quadlet, data, 0o755)); err != nil {
		return err
	}
	fmt.Printf("%s; stock Quadlet %s, which is also the one that zerolet asks; %d interleaved rounds, without files %d; wall time in ms: median (quartiles).\n\n",
		machine(), stockVersion, rounds, manyRounds)
	fmt.Print("| scaled | plain | empty program | stock Quadlet | wrong use | zerolet | ÷ empty | ÷ stock | MiB stock | MiB zerolet |\n" +
		"|---|---|---|---|---|---|---|---|---|---|\n")
	for _, files := range [][2]int{{0, 0}, {0, 1000}, {1, 1}, {10, 10}, {100, 100}, {1000, 1000}} {
		ours := filepath.Join(work, "zerolet-system-generator")
		c := generatorCase{scaled: files[0], plain: files[1], tmp: tmp, programs: []program{{path: filepath.Join(work, "empty")}, {path: quadlet}, {ours, true}, {ours, false}}}
		line, err := c.measure(ctx)
		if err != nil {
			return err
		}
		fmt.Print(line)
	}
	return nil
}

type generatorCase struct {
	scaled, plain int
	tmp           string
	programs      []program
}

// program is one that is measured. With wrongUse it gets no argument, and ends
// when it has seen that: what a program costs that has all linked in and does
// nothing.
type program struct {
	path     string
	wrongUse bool
}

// measure runs the programs in turn, so that what else the machine does meets
// all of them, and gives a line of the table.
func (c generatorCase) measure(ctx context.Context) (string, error) {
	units := filepath.Join(c.tmp, "units")
	if err := c.files(units); err != nil {
		return "", err
	}
	defer os.RemoveAll(units)
	times := make([]sample, len(c.programs))
	peaks := make([]int64, len(c.programs))
	n := rounds
	if c.scaled+c.plain == 0 {
		n = manyRounds
	}
	for range n {
		for i, p := range c.programs {
			took, peak, err := c.once(ctx, p, units)
			if err != nil {
				return "", err
			}
			times[i] = append(times[i], took)
			peaks[i] = max(peaks[i], peak)
		}
	}
	ratio := func(a, b sample) string { return fmt.Sprintf("%.2f", float64(a.median())/float64(b.median())) }
	return fmt.Sprintf("| %d | %d | %s | %s | %s | %s | %s | %s | %d | %d |\n", c.scaled, c.plain, times[0], times[1], times[2], times[3],
		ratio(times[3], times[0]), ratio(times[3], times[1]), peaks[1]>>20, peaks[3]>>20), nil
}

// once runs a generator as systemd does, and sees that it did its work.
func (c generatorCase) once(ctx context.Context, p program, units string) (took time.Duration, peak int64, err error) {
	out := filepath.Join(c.tmp, "out")
	args := make([]string, 0, 3)
	for _, dir := range []string{"normal", "early", "late"} {
		args = append(args, filepath.Join(out, dir))
		err = errors.Join(err, os.MkdirAll(filepath.Join(out, dir), 0o755))
	}
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(out)
	name := filepath.Base(p.path)
	switch {
	case name == "quadlet":
		args = append([]string{"-no-kmsg-log"}, args...)
	case p.wrongUse:
		args = nil
	}
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = []string{"QUADLET_UNIT_DIRS=" + units, "TMPDIR=" + c.tmp}
	start := time.Now()
	err = cmd.Run()
	took = time.Since(start)
	if p.wrongUse && cmd.ProcessState.ExitCode() == 2 {
		return took, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", p.path, err)
	}
	peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10 // getrusage(2): KiB, its children's too
	if c.scaled > 0 && name == "zerolet-system-generator" {
		made, _ := filepath.Glob(filepath.Join(out, "early/*.service"))
		if len(made) != c.scaled {
			return 0, 0, fmt.Errorf("%d units of %d files", len(made), c.scaled)
		}
	}
	return took, peak, nil
}

// files are of the kind that people have: some ten lines each.
func (c generatorCase) files(units string) error {
	const text = "[Unit]\nDescription=Container %[1]d\nAfter=network-online.target\n\n[Container]\nImage=registry.example/app:%[1]d\n" +
		"Volume=/srv/%[1]d:/srv:Z\nEnvironment=NUMBER=%[1]d TZ=UTC\nPublishPort=%[1]d:80\n\n[Service]\nRestart=always\n\n" +
		"[Install]\nWantedBy=default.target\n"
	err := os.Mkdir(units, 0o755)
	for i := range c.plain {
		err = errors.Join(err, os.WriteFile(filepath.Join(units, fmt.Sprintf("plain-%d.container", i)), fmt.Appendf(nil, text, 10000+i), 0o644))
	}
	for i := range c.scaled {
		scaled := fmt.Sprintf(text, 20000+i) + "\n[ScaleToZero]\nIdleTimeout=30s\n"
		err = errors.Join(err, os.WriteFile(filepath.Join(units, fmt.Sprintf("scaled-%d.container", i)), []byte(scaled), 0o644))
	}
	return err
}
