// Package version knows which zerolet a program is of. It asks nobody: the
// build has said so.
package version

import (
	"runtime/debug"
	"strings"
)

// stamped is what the build has set, as "make build" does:
// -ldflags "-X github.com/zerolet/zerolet/cmd/internal/version.stamped=0.1.0".
var stamped string

// String is the version without a "v": what was stamped, else what Go knows of
// the module, as after "go install github.com/zerolet/zerolet/cmd/zerolet@v0.1.0".
func String() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}
