package convert

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

// Override is what zerolet changes in a file before Quadlet converts it. The
// container is otherwise what the machine's Podman would have made of it.
type Override struct {
	File     *quadlet.File
	Settings []Setting // of the section that the file is about; they come after the file's own
	// Newer are others, for which the embedded Quadlet has no use: it takes
	// Notify=healthy for Notify=no, and may be there for a Podman without start-up
	// checks, which came with 4.4.
	Newer []Setting
}

// Setting is an assignment.
type Setting struct{ Key, Value string }

// text is the override as a drop-in.
func (o Override) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "[%s]\n", o.File.Kind())
	for _, s := range slices.Concat(o.Settings, o.Newer) {
		fmt.Fprintf(&b, "%s=%s\n", s.Key, s.Value)
	}
	// Quadlet >= 5.3 makes every container wait for network-online.target, up
	// to 90 s on a machine that is offline: a client would be held for that.
	if _, asked := o.File.Last("Quadlet", "DefaultDependencies"); !asked {
		b.WriteString("[Quadlet]\nDefaultDependencies=no\n")
	}
	return b.Bytes()
}

// Result is what became of one Override: the service unit, or why there is none.
type Result struct {
	Service     *quadlet.File
	Diagnostics quadlet.Diagnostics
}

// Config says with what and for whom files are converted.
type Config struct {
	// Quadlet is the path of the machine's own Quadlet. Where it is empty or
	// too old to read drop-ins, the embedded podman/v4 converts.
	Quadlet string
	Manager quadlet.Manager
	Sources *quadlet.Sources // the machine's Quadlet files
	TempDir string           // for the private drop-ins where os.TempDir cannot be written
	Timeout time.Duration    // limit of one run of Quadlet
}

// Run converts the files, in order. The diagnostics are about the run as a
// whole; what is wrong with one file is in its Result.
func Run(ctx context.Context, c Config, overrides []Override) ([]Result, quadlet.Diagnostics) {
	if len(overrides) == 0 {
		return nil, nil
	}
	var ds quadlet.Diagnostics
	if c.Quadlet != "" {
		results, err := c.delegate(ctx, overrides)
		if err == nil {
			return results, nil
		}
		ds.Warnf(quadlet.Pos{File: c.Quadlet}, "", "converting with the embedded Quadlet 4.9.5 instead: %v", err)
	}
	return c.embed(overrides), ds
}

// FindQuadlet is the path of the machine's own Quadlet, or "": upstream and
// Debian install the first, Arch the second.
func FindQuadlet() string {
	for _, path := range []string{"/usr/libexec/podman/quadlet", "/usr/lib/podman/quadlet"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
