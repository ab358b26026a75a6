package proxy

import (
	"io"
	"os"

	"github.com/zerolet/zerolet/proxy/internal/watch"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Watch is [Serve] for an app that accepts from the passed sockets itself: it
// looks at the connections, until there has been none for the idle time or stop
// has got a value. It then leaves the sockets shut, so that an app that is being
// stopped takes no connection along; who stops it calls [Open] afterwards.
func Watch(cfg wire.Config, files []*os.File, stop <-chan os.Signal, stderr io.Writer) error {
	return watch.Watch(cfg, files, stop, stderr)
}

// Open opens the sockets that [Watch] has left shut, once the container is gone.
// It closes the files.
func Open(files []*os.File) error { return watch.Open(files) }
