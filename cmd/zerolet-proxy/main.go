// Zerolet-proxy holds the clients of a container that systemd is starting and
// forwards them once its app accepts. The units that zerolet-generator writes
// run it; --help says how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/zerolet/zerolet/cmd/internal/release"
	"github.com/zerolet/zerolet/proxy"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Exit statuses, after sysexits.h, which systemd.exec(5) names too.
const (
	exitFailure = 1
	exitUsage   = 64
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == proxy.HelperArg {
		return proxy.RunHelper()
	}
	if len(args) == 1 && args[0] == "--version" {
		fmt.Fprintln(stdout, "zerolet-proxy", release.Version())
		return 0
	}
	cfg, err := wire.ParseArgs(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, wire.Usage)
		return 0
	}
	if err != nil {
		fmt.Fprintf(stderr, "zerolet-proxy: %v\nhint: --help shows the usage\n", err)
		return exitUsage
	}
	if cfg.Open {
		return status(proxy.Open(proxy.Passed()), stderr)
	}
	if cfg.Waker {
		return status(proxy.Wakened(proxy.Passed()), stderr)
	}
	if cfg.Thaw {
		return status(proxy.Thaw(cfg), stderr)
	}
	if cfg.Enter {
		return status(proxy.Enter(cfg, proxy.Passed()), stderr)
	}
	// Before the sockets are taken: from here on a stop is a drain.
	stop := make(chan os.Signal, 8)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	serve := proxy.Serve
	if cfg.Native {
		serve = proxy.Watch
	} else {
		signal.Notify(stop, wire.LetGo)
	}
	if cfg.GivesWay || cfg.Calendar != "" {
		signal.Notify(stop, wire.GiveWay)
	}
	return status(serve(cfg, proxy.Passed(), stop, stderr), stderr)
}

// status is the exit status for what came of it.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "zerolet-proxy: %v\n", err)
	proxy.AwaitReader(stderr)
	if errors.Is(err, wire.ErrConfig) {
		return wire.ExitConfig
	}
	return exitFailure
}
