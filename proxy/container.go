package proxy

import (
	"os"

	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/wire"
)

// HelperArg as the only argument makes the program the helper that makes sockets
// inside a container, see [RunHelper].
const HelperArg = reach.HelperArg

// RunHelper is the helper. It returns the exit status.
func RunHelper() int { return reach.RunHelper() }

// Enter is the entry: it makes sockets inside a rootful container for its proxy,
// which connects to the passed socket.
func Enter(cfg wire.Config, files []*os.File) error { return reach.Enter(cfg, files) }

// Thaw has frozen containers go on, for who is going to stop them, or has found
// their proxy dead.
func Thaw(cfg wire.Config) error { return reach.Thaw(cfg.Freeze) }
