// Package release knows which zerolet a program is of. It asks nobody: the
// build has said so.
package release

import (
	"runtime/debug"
	"strings"
)

// version is set by the build, as "make build" does:
// -ldflags "-X github.com/zerolet/zerolet/cmd/internal/release.version=0.1.0".
var version string

// Version is without a "v". It is what the build has set, else what Go knows of
// the module, as after "go install github.com/zerolet/zerolet/cmd/zerolet@v0.1.0".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}
