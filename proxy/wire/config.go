package wire

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Infinity is the duration that "infinity" on the command line stands for.
const Infinity = time.Duration(math.MaxInt64)

// ErrConfig says that what systemd passed and what the command line says do
// not fit together. Trying again does not help.
var ErrConfig = errors.New("configuration")

// ExitConfig is the exit status for it (EX_CONFIG in sysexits.h, which
// systemd.exec(5) names, too).
const ExitConfig = 78

// NoCheck as [Config.ReadyCheck] lets clients through without any.
const NoCheck = "none"

// Config is the command line of zerolet-proxy. The generator spells it, with the
// specifiers of systemd.unit(5) in its paths, and the proxy reads it.
type Config struct {
	// Open says to open the sockets that a proxy with Native has left shut, and
	// nothing else.
	Open bool
	// Thaw says to thaw the containers of Freeze, and nothing else.
	Thaw bool
	// Container is the name of the container's service unit.
	Container string
	// Members are the units in which the app's processes are besides: the
	// containers of a pod.
	Members []string
	// PIDFile, if not empty, holds the pid of a process in the container, and
	// the targets are inside that process's network namespace.
	PIDFile string
	// Conmon says that the pid is that of conmon(8), and its child is the process.
	Conmon bool
	// Infra says that the process is that of an infra container in the unit.
	Infra bool
	// Entry, if not empty, is the socket of a process that enters the network
	// namespace, and the targets are inside.
	Entry string
	// EntryOutside, if not empty, is the socket of that process where the targets are
	// not inside, and it stays outside.
	EntryOutside string
	// Enter says that this is that process, and Client is the unit it serves.
	Enter  bool
	Client string
	// StandIn, if not empty, is the passed socket to which the container's
	// stand-in brings those that it listens on.
	StandIn string
	// HostNetwork says that the container has the network of the proxy, where
	// others can listen, too.
	HostNetwork bool
	// Native says that the app accepts from the passed sockets itself.
	Native bool
	// IdleTimeout is how long the proxy stays without a connection.
	IdleTimeout time.Duration
	// Freeze are the units whose containers are frozen after IdleTimeout, in this
	// order; none: the proxy ends.
	Freeze []string
	// StopAfter is how long they are frozen until the proxy ends.
	StopAfter time.Duration
	// Reclaim has their memory reclaimed while they are frozen.
	Reclaim bool
	// StartTimeout is how long a connection is held, counted from its accept.
	StartTimeout time.Duration
	// StayAwake is the least time from a wake to the proxy's end.
	StayAwake time.Duration
	// Calendar, if not empty, is a file that a calendar touches which wakes the
	// container.
	Calendar string
	// GivesWay says that others may ask the proxy to end before it has been idle
	// for long ([GiveWay]).
	GivesWay bool
	// BusyCPU is how much of a processor, in percent, the container has to use so
	// that it is not idle; 0: it is idle whatever it does.
	BusyCPU int64
	// DrainTimeout is how long open connections may go on after SIGTERM.
	DrainTimeout time.Duration
	// ReadyCheck is NoCheck, the path of an HTTP request, or empty for the
	// look whether the app resets.
	ReadyCheck string
	// Started are files that Podman writes anew when it starts the container, or one
	// of a pod. The first is there while the app may be.
	Started []string
	// ProxyProtocol is the version, 0 for none.
	ProxyProtocol int
	// HideClient has the app see the container's own address as that of each
	// client. So it is, too, if the PROXY protocol tells it.
	HideClient bool
	// MaxConnections is how many may be open; 0 is no limit.
	MaxConnections int64
	// AllowFrom are the clients that are served; none means all.
	AllowFrom []netip.Prefix
	// Volumes are the directories of the host that the container may write to.
	Volumes []string
	// ConnectionIdleTimeout is how long a connection counts after its last byte.
	ConnectionIdleTimeout time.Duration
	// Start, if not empty, is what to have the user's manager start for the
	// first client who may wake the container, or the path of the socket of the
	// waker, which has the system's manager do so.
	Start string
	// Waker says that this is the waker.
	Waker bool
	// ByData says that a connection is none before its first byte.
	ByData bool
	// Probes are globs of the paths, IgnoreAgents of the agents whose requests of
	// HTTP wake nothing, and are no use.
	Probes, IgnoreAgents []string
	// WaitingPage says to show browsers a page while the container starts, that of
	// WaitingPageFile if there is one. WakeTimes is a file for how long that takes.
	WaitingPage                bool
	WaitingPageFile, WakeTimes string
	// WakeResult is a directory in which the containers' units tell how they have ended.
	WakeResult string
	// Forwards has one entry for each public address.
	Forwards []Forward
}

// DrainTimeout is the default of [Config.DrainTimeout].
const DrainTimeout = 10 * time.Second

// setDefaults fills in what is zero and may not be.
func (c *Config) setDefaults() {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 2*time.Minute)
	c.StartTimeout = cmp.Or(c.StartTimeout, 5*time.Minute)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DrainTimeout)
	if len(c.Freeze) > 0 {
		c.StopAfter = cmp.Or(c.StopAfter, time.Hour)
	}
	c.ConnectionIdleTimeout = cmp.Or(c.ConnectionIdleTimeout, Infinity)
}

// Args is the command line, without the program's name. What is zero is left to
// the defaults.
func (c Config) Args() []string {
	var args []string
	for _, o := range c.options() {
		for _, value := range o.values() {
			if o.flag {
				args = append(args, "--"+o.name)
			} else {
				args = append(args, "--"+o.name+"="+value)
			}
		}
	}
	return args
}

// ParseArgs reads what [Config.Args] writes. The error is [flag.ErrHelp] if help
// was asked for.
func ParseArgs(args []string) (Config, error) {
	var cfg Config
	set := flag.NewFlagSet("zerolet-proxy", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, o := range cfg.options() {
		if o.flag {
			set.BoolFunc(o.name, "", o.set)
		} else {
			set.Func(o.name, "", o.set)
		}
	}
	if err := set.Parse(args); err != nil {
		return Config{}, err
	}
	if set.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if cfg.Open || cfg.Waker {
		if len(args) > 1 {
			return Config{}, errors.New("--open and --waker stand alone")
		}
		return cfg, nil
	}
	if cfg.Thaw {
		if len(cfg.Freeze) == 0 || len(args) > 1+len(cfg.Freeze) {
			return Config{}, errors.New("--thaw wants --freeze=, and nothing else")
		}
		return cfg, nil
	}
	cfg.setDefaults()
	return cfg, cfg.check()
}

// check finds what no single flag can tell.
func (c *Config) check() error {
	switch {
	case strings.HasPrefix(c.ReadyCheck, "/") && len(c.Started) == 0:
		return errors.New("--ready-check=http: without --started=")
	case c.BusyCPU < 0:
		return errors.New("--busy-cpu= is negative")
	case c.MaxConnections < 0:
		return errors.New("--max-connections= is negative")
	case c.Container == "":
		return errors.New("--container= is missing")
	case !strings.HasSuffix(c.Container, ".service") || strings.Contains(c.Container, "/"):
		return fmt.Errorf("--container=%s is not the name of a service unit", c.Container)
	case c.Conmon && c.PIDFile == "":
		return errors.New("--conmon without --pidfile=")
	case c.Enter != (c.Client != ""):
		return errors.New("--enter and --client= go together")
	case c.PIDFile != "" && c.Infra:
		return errors.New("--pidfile= and --infra exclude each other")
	case c.Enter && (c.Native || c.Entry != "" || c.EntryOutside != "" || len(c.Forwards) > 0):
		return errors.New("--enter excludes --entry=, --entry-outside=, --native and --forward=")
	case c.Enter:
		return nil
	case c.LooksAt() && c.Start == "":
		return errors.New("--by-data, --probe=, --ignore-agent= and --waiting-page want --start=")
	case c.WaitingPage != (c.WakeTimes != "") || c.WaitingPage != (c.WakeResult != "") || c.WaitingPageFile != "" && !c.WaitingPage:
		return errors.New("--waiting-page, --waiting-page-file=, --wake-times= and --wake-result= go together")
	case c.Native && len(c.Freeze) > 0:
		return errors.New("--native excludes --freeze=")
	case c.EntryOutside != "" && (c.Inside() || c.Native):
		return errors.New("--entry-outside= excludes --pidfile=, --infra, --entry= and --native")
	case c.enters() && c.Entry != "", c.Inside() && c.HostNetwork:
		return errors.New("--pidfile=, --infra, --entry= and --host-network exclude each other")
	case c.Native && (c.Inside() || c.HostNetwork || len(c.Forwards) > 0):
		return errors.New("--native excludes --pidfile=, --entry=, --host-network and --forward=")
	case len(c.Forwards) == 0 && !c.Native:
		return errors.New("--forward= is missing")
	}
	return c.checkForwards()
}

// checkForwards finds a public address with two targets, and one that nobody
// brings.
func (c *Config) checkForwards() error {
	taken := make(map[Address]bool)
	brought := false
	for _, f := range c.Forwards {
		brought = brought || f.Listen.Device != ""
		if taken[f.Listen] {
			return fmt.Errorf("%s is forwarded twice", f.Listen)
		}
		taken[f.Listen] = true
	}
	if brought != (c.StandIn != "") {
		return errors.New("--stand-in= and --forward=network: go together")
	}
	return nil
}

// Inside reports whether the targets are in the container's network namespace.
func (c *Config) Inside() bool { return c.enters() || c.Entry != "" }

// enters reports whether this process is to find the network namespace itself.
func (c *Config) enters() bool { return c.PIDFile != "" || c.Infra }

// LooksAt reports whether the proxy looks at the first bytes of clients, and not
// only at their coming.
func (c *Config) LooksAt() bool { return c.ByData || c.ReadsHeads() || c.WaitingPage }

// ReadsHeads reports whether it reads them as HTTP, awake or asleep.
func (c *Config) ReadsHeads() bool { return len(c.Probes) > 0 || len(c.IgnoreAgents) > 0 }

// Serves reports whether these are the words of the proxy of the container,
// whatever else they say: another version may know other options.
func Serves(words []string, container string) bool {
	return slices.Contains(values(words, "container"), container)
}

// Members are the units of the other containers of the pod that these words serve,
// whatever else they say.
func Members(words []string) []string { return values(words, "member") }

// AllowFrom are the clients that these words let in, whatever else they say:
// systemctl show tells where a word ends of none that has a space in it.
func AllowFrom(words []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, value := range values(words, "allow-from") {
		if p, err := netip.ParsePrefix(value); err == nil {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

// values are those of an option.
func values(words []string, name string) []string {
	var values []string
	for _, word := range words {
		if value, ok := strings.CutPrefix(word, "--"+name+"="); ok {
			values = append(values, value)
		}
	}
	return values
}
