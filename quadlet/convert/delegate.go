package convert

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

// delegate runs the machine's own Quadlet on all files at once. An error means
// that this Quadlet cannot serve us; a file that it refuses is a diagnostic of
// that file.
func (c Config) delegate(ctx context.Context, overrides []Override) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := c.supported(ctx); err != nil {
		return nil, err
	}
	return c.dryRun(ctx, overrides)
}

// halves converts each half by itself, at the same time.
func (c Config) halves(ctx context.Context, overrides []Override) ([]Result, error) {
	half := len(overrides) / 2
	var first, second []Result
	var err1, err2 error
	var wg sync.WaitGroup
	wg.Go(func() { first, err1 = c.dryRun(ctx, overrides[:half]) })
	second, err2 = c.dryRun(ctx, overrides[half:])
	wg.Wait()
	return append(first, second...), cmp.Or(err1, err2)
}

// dryRun converts the files in one run, in several if they are many, and in
// ever smaller halves where Quadlet crashes: up to 5.4 it does on a Mount= with
// an empty source.
func (c Config) dryRun(ctx context.Context, overrides []Override) ([]Result, error) {
	const many = 500
	if len(overrides) > many {
		return c.halves(ctx, overrides)
	}
	m, err := c.mirror(overrides)
	if err != nil {
		return nil, err
	}
	defer m.close() //nolint:errcheck // what is left lies in a temporary directory
	for {
		out, err := c.run(ctx, "QUADLET_UNIT_DIRS="+m.unitDirs(), "-dryrun")
		if err != nil {
			return nil, err
		}
		messages := refusals(m.real(out.stderr))
		if m.remove(messages) {
			continue
		}
		if out.crashed && len(overrides) > 1 {
			return c.halves(ctx, overrides)
		}
		if out.crashed {
			messages[overrides[0].File.Path] = "it crashes on this file"
		}
		return collect(overrides, splitUnits(m.real(out.stdout)), m.removed, messages), nil
	}
}

// supported reports whether this Quadlet reads drop-ins and knows
// DefaultDependencies=, as 5.3 and later do.
func (c Config) supported(ctx context.Context) error {
	for _, dir := range c.Sources.Dirs() {
		if strings.Contains(dir, ":") {
			return fmt.Errorf("QUADLET_UNIT_DIRS cannot name the directory %q", dir)
		}
	}
	out, err := c.run(ctx, "", "-version")
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out.stdout), "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("its version is not known: %q", strings.TrimSpace(string(out.stdout)))
	}
	if major < 5 || major == 5 && minor < 3 {
		return fmt.Errorf("version %d.%d is older than 5.3", major, minor)
	}
	return nil
}

// output is what a run of Quadlet left. A crash is a panic of the Go runtime:
// its exit status is 2, Quadlet's own is 1 where some file is bad.
type output struct {
	stdout, stderr []byte
	crashed        bool
}

func (c Config) run(ctx context.Context, env string, args ...string) (output, error) {
	if c.Manager == quadlet.User {
		args = append([]string{"-user"}, args...)
	}
	cmd := exec.CommandContext(ctx, c.Quadlet, args...)
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return output{}, fmt.Errorf("it did not end within %s", c.Timeout)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		err = nil
	}
	return output{out.Bytes(), diag.Bytes(), cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 2}, err
}

// splitUnits splits what -dryrun prints: each unit follows a line ---NAME---.
// The units come back by SourcePath=, which names the file they are made of.
// Such a line inside a continued value is part of the value.
func splitUnits(out []byte) map[string]*quadlet.File {
	units := make(map[string]*quadlet.File)
	var name string
	var text []byte
	flush := func() {
		unit, _ := quadlet.Parse(name, text)
		if source, ok := unit.Last("Unit", "SourcePath"); ok {
			units[source.Value] = unit
		}
	}
	continued := false
	for line := range bytes.Lines(out) {
		trimmed := bytes.TrimRight(line, "\n")
		if !continued && len(trimmed) > 6 && bytes.HasPrefix(trimmed, []byte("---")) && bytes.HasSuffix(trimmed, []byte("---")) {
			flush()
			name, text = string(trimmed[3:len(trimmed)-3]), nil
			continue
		}
		continued = bytes.HasSuffix(trimmed, []byte(`\`))
		text = append(text, line...)
	}
	flush()
	return units
}

// refusals are Quadlet's messages by the path or name of the file they are
// about: "quadlet-generator[PID]: converting "NAME": MESSAGE", or error
// loading "PATH". Up to 5.4 only the first of them has the prefix.
func refusals(stderr []byte) map[string]string {
	messages := make(map[string]string)
	for line := range strings.Lines(string(stderr)) {
		text := line
		if strings.HasPrefix(line, "quadlet-generator[") {
			_, text, _ = strings.Cut(line, "]: ")
		}
		for _, prefix := range []string{`converting "`, `error loading "`} {
			quoted, ok := strings.CutPrefix(text, prefix)
			if !ok {
				continue
			}
			if name, message, ok := strings.Cut(quoted, `"`); ok {
				messages[name] = strings.Trim(message, ":, \n")
			}
		}
	}
	return messages
}

func collect(overrides []Override, units map[string]*quadlet.File, refusals ...map[string]string) []Result {
	results := make([]Result, len(overrides))
	for i, o := range overrides {
		results[i].Service = units[o.File.Path]
		if results[i].Service != nil {
			continue
		}
		message := "it made no unit of this file"
		for _, r := range refusals {
			message = cmp.Or(r[o.File.Path], r[o.File.Name()], message)
		}
		results[i].Diagnostics = refused(o.File, message)
	}
	return results
}
