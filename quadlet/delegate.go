package quadlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// delegate runs the machine's own Quadlet once for all files, with one private
// drop-in for each. An error means that this Quadlet cannot serve us; a file
// that it refuses is a diagnostic of that file.
func (c Converter) delegate(ctx context.Context, overrides []Override) ([]Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if err := c.supported(ctx); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(c.TempDir, "zerolet-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	for _, o := range overrides {
		if err := c.writeDropin(private, o); err != nil {
			return nil, err
		}
	}
	stdout, stderr, err := c.run(ctx, "QUADLET_UNIT_DIRS="+strings.Join(append(c.Sources.Dirs(), private), ":"), "-dryrun")
	if err != nil {
		return nil, err
	}
	return collect(overrides, splitUnits(stdout), refusals(stderr)), nil
}

// supported tells whether this Quadlet reads drop-ins from every directory of
// QUADLET_UNIT_DIRS and knows DefaultDependencies=, as 5.3 and later do.
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

// writeDropin writes an override below the private directory, under a name
// that sorts after every drop-in of the file: the last one wins.
func (c Converter) writeDropin(private string, o Override) error {
	dir := filepath.Join(private, o.File.Name()+".d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	name := "zz-zerolet.conf"
	if dropins := c.Sources.Dropins(o.File.Name()); len(dropins) > 0 {
		if last := filepath.Base(dropins[len(dropins)-1]); last >= name {
			name = strings.TrimSuffix(last, ".conf") + "~zerolet.conf"
		}
	}
	return os.WriteFile(filepath.Join(dir, name), o.text(), 0o600)
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

// refusals are Quadlet's messages by the name of the file they are about:
// "quadlet-generator[PID]: converting "NAME": MESSAGE".
func refusals(stderr []byte) map[string]string {
	messages := make(map[string]string)
	for line := range strings.Lines(string(stderr)) {
		_, text, _ := strings.Cut(line, "]: ")
		for _, prefix := range []string{`converting "`, `error loading "`} {
			quoted, ok := strings.CutPrefix(text, prefix)
			if !ok {
				continue
			}
			if name, message, ok := strings.Cut(quoted, `"`); ok {
				messages[filepath.Base(name)] = strings.Trim(message, ":, \n")
			}
		}
	}
	return messages
}

func collect(overrides []Override, units map[string]*File, refused map[string]string) []Result {
	results := make([]Result, len(overrides))
	for i, o := range overrides {
		results[i].Service = units[o.File.Path]
		if results[i].Service != nil {
			continue
		}
		message, ok := refused[o.File.Name()]
		if !ok {
			message = "it made no unit of this file"
		}
		results[i].Diagnostics.Errorf(Pos{File: o.File.Path}, "", "quadlet: %s", message)
	}
	return results
}
