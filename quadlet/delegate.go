package quadlet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// delegate runs the machine's own Quadlet on all files at once. An error means
// that this Quadlet cannot serve us; a file that it refuses is a diagnostic of
// that file.
func (c Converter) delegate(ctx context.Context, overrides []Override) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := c.supported(ctx); err != nil {
		return nil, err
	}
	m, err := c.mirror(overrides)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(m.root)
	for {
		stdout, stderr, err := c.run(ctx, "QUADLET_UNIT_DIRS="+m.dirs(), "-dryrun")
		if err != nil {
			return nil, err
		}
		refused := refusals(m.real(stderr))
		if m.remove(refused) {
			continue
		}
		return collect(overrides, splitUnits(m.real(stdout)), m.removed, refused), nil
	}
}

// supported tells whether this Quadlet reads drop-ins and knows
// DefaultDependencies=, as 5.3 and later do.
func (c Converter) supported(ctx context.Context) error {
	for _, dir := range c.Sources.Dirs() {
		if strings.Contains(dir, ":") {
			return fmt.Errorf("QUADLET_UNIT_DIRS cannot name the directory %q", dir)
		}
	}
	out, _, err := c.run(ctx, "", "-version")
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("its version is not known: %q", strings.TrimSpace(string(out)))
	}
	if major < 5 || major == 5 && minor < 3 {
		return fmt.Errorf("version %d.%d is older than 5.3", major, minor)
	}
	return nil
}

// run runs Quadlet. Its exit status says only that some file of the machine is
// bad, so it counts only where nothing was printed.
func (c Converter) run(ctx context.Context, env string, args ...string) (stdout, stderr []byte, err error) {
	if c.Manager == User {
		args = append([]string{"-user"}, args...)
	}
	cmd := exec.CommandContext(ctx, c.Quadlet, args...)
	if env != "" {
		cmd.Env = append(os.Environ(), env)
	}
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() && ctx.Err() == nil {
		err = nil
	}
	return out.Bytes(), diag.Bytes(), err
}

// splitUnits splits what -dryrun prints: each unit follows a line ---NAME---.
// The units come back by SourcePath=, which names the file they are made of.
// Such a line inside a continued value is part of the value.
func splitUnits(out []byte) map[string]*File {
	units := make(map[string]*File)
	var name string
	var text []byte
	flush := func() {
		unit, _ := Parse(name, text)
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

func collect(overrides []Override, units map[string]*File, refused ...map[string]string) []Result {
	results := make([]Result, len(overrides))
	for i, o := range overrides {
		results[i].Service = units[o.File.Path]
		if results[i].Service != nil {
			continue
		}
		message := "it made no unit of this file"
		for _, r := range refused {
			message = cmp.Or(r[o.File.Path], r[o.File.Name()], message)
		}
		results[i].Diagnostics.Errorf(Pos{File: o.File.Path}, "", "quadlet: %s", message)
	}
	return results
}
