package proxy

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Infinity is the duration that "infinity" on the command line stands for.
const Infinity = time.Duration(math.MaxInt64)

// Usage is what --help prints.
const Usage = `usage: zerolet-proxy --container=UNIT [--pidfile=PATH | --entry=PATH | --host-network]
       [--ready-check=CHECK] [--started=PATH] [--proxy-protocol=v1|v2]
       [--client-address=client|proxy] [--max-connections=N] [--allow-from=PREFIX]...
       [--volume=DIRECTORY]... [--connection-idle-timeout=TIME] [--idle-timeout=TIME]
       [--start-timeout=TIME] [--drain-timeout=TIME] --forward=LISTEN=TARGET ...
       zerolet-proxy --container=UNIT --native [--idle-timeout=TIME]
       [--start-timeout=TIME]
       zerolet-proxy --open
       zerolet-proxy --enter --container=UNIT --pidfile=PATH --client=UNIT
       zerolet-proxy --help | --version

Serves the sockets that systemd passes (LISTEN_FDS), holds each connection
until the app of the container takes it, and exits when idle. With --native
the app takes them from the sockets itself, and zerolet-proxy only looks
whether there are any. It leaves the sockets shut to newcomers; --open opens
them when the container is gone. With --enter it is what makes sockets
inside a rootful container for its proxy, which connects to the passed socket.

  --container=UNIT      the container's service unit, for example httpd.service
  --pidfile=PATH        file with the container's pid (podman run --pidfile=);
                        targets are then inside its network namespace
  --entry=PATH          socket of the entry, zerolet-proxy --enter, which makes
                        the sockets inside in place of this process
  --client=UNIT         the proxy's service unit, whom the entry serves
  --host-network        targets are in the network of the proxy: who listens there
                        and is not of the container's unit gets nothing
  --ready-check=CHECK   none: the app is ready once it accepts; http:/PATH: once
                        a GET of it on the first target has a status 2xx or 3xx;
                        without it, once it accepts and does not reset at once
  --started=PATH        a file that is new when the container is, for http
  --proxy-protocol=V    v1 or v2: tell the app who each client is
  --client-address=WHOSE
                        client: the app sees each client's own address where
                        it has a network namespace of its own; proxy: it sees
                        the container's (client, or proxy with --proxy-protocol)
  --max-connections=N   accept no more than that at a time; 0: no limit
  --allow-from=PREFIX   whom to serve, 192.0.2.0/24 for instance; repeatable
  --volume=DIRECTORY    is mounted into the container: on the way from there to a
                        unix socket no symbolic link is followed, and without
                        any on the whole of it; repeatable
  --start=UNIT          has the user's manager start this for the first client,
                        and waits for it: the container is not there before
  --connection-idle-timeout=TIME
                        a connection without a byte for this long counts as
                        ended, and is when the proxy exits (infinity)
  --idle-timeout=TIME   exit after this long without a connection (2m0s)
  --start-timeout=TIME  how long a connection is held, from its accept (5m0s)
  --drain-timeout=TIME  how long SIGTERM lets open connections finish (10s)
  --forward=LISTEN=TARGET
                        LISTEN is the local address of a passed socket,
                        TARGET where the app listens: [::]:8080=127.0.0.1:80,
                        unix:/run/web.sock=unix:/run/app.sock.
                        [::] and 0.0.0.0 mean the same in LISTEN

TIME is written as in 1m30s, 500ms or infinity.

exit status: 0 idle, or drained after SIGTERM; 1 failure; 64 usage;
78 the passed sockets and the forwards do not fit
`

// NoCheck as [Config.ReadyCheck] lets clients through without any.
const NoCheck = "none"

// Config is what the command line says.
type Config struct {
	// Container is the name of the container's service unit.
	Container string
	// PIDFile, if not empty, holds the pid of a process in the container, and
	// the targets are inside that process's network namespace.
	PIDFile string
	// Entry, if not empty, is the socket of a process that enters the network
	// namespace, and the targets are inside.
	Entry string
	// Enter says that this is that process, and Client is the unit it serves.
	Enter  bool
	Client string
	// HostNetwork says that the container has the network of the proxy, where
	// others can listen, too.
	HostNetwork bool
	// Native says that the app accepts from the passed sockets itself.
	Native bool
	// IdleTimeout is how long the proxy stays without a connection.
	IdleTimeout time.Duration
	// StartTimeout is how long a connection is held, counted from its accept.
	StartTimeout time.Duration
	// DrainTimeout is how long open connections may go on after SIGTERM.
	DrainTimeout time.Duration
	// ReadyCheck is NoCheck, the path of an HTTP request, or empty for the
	// look whether the app resets.
	ReadyCheck string
	// Started is a file that Podman writes anew when it starts the container.
	Started string
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
	// first client.
	Start string
	// Forwards has one entry for each public address.
	Forwards []Forward
}

// Forward says where the connections of one listening socket go.
type Forward struct {
	// Listen is the local address of the socket, as [Address.ListenKey] writes it.
	Listen Address
	// Target is the address of the app.
	Target Address
}

// ParseArgs reads the command line, without the program's name. The error is
// [flag.ErrHelp] if help was asked for.
func ParseArgs(args []string) (Config, error) {
	cfg := Config{
		IdleTimeout: 2 * time.Minute, StartTimeout: 5 * time.Minute, DrainTimeout: 10 * time.Second,
		ConnectionIdleTimeout: Infinity,
	}
	set := flag.NewFlagSet("zerolet-proxy", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	set.StringVar(&cfg.Container, "container", "", "")
	set.StringVar(&cfg.PIDFile, "pidfile", "", "")
	set.StringVar(&cfg.Entry, "entry", "", "")
	set.BoolVar(&cfg.Enter, "enter", false, "")
	set.StringVar(&cfg.Client, "client", "", "")
	set.Func("ready-check", "", cfg.setReadyCheck)
	set.BoolVar(&cfg.HostNetwork, "host-network", false, "")
	set.StringVar(&cfg.Started, "started", "", "")
	set.Func("proxy-protocol", "", cfg.setProxyProtocol)
	set.Func("client-address", "", cfg.setClientAddress)
	set.Int64Var(&cfg.MaxConnections, "max-connections", 0, "")
	set.Func("allow-from", "", cfg.addAllowed)
	set.Func("volume", "", cfg.addVolume)
	set.StringVar(&cfg.Start, "start", "", "")
	set.Var((*timeSpan)(&cfg.ConnectionIdleTimeout), "connection-idle-timeout", "")
	set.BoolVar(&cfg.Native, "native", false, "")
	set.Var((*timeSpan)(&cfg.IdleTimeout), "idle-timeout", "")
	set.Var((*timeSpan)(&cfg.StartTimeout), "start-timeout", "")
	set.Var((*timeSpan)(&cfg.DrainTimeout), "drain-timeout", "")
	set.Var((*forwardList)(&cfg.Forwards), "forward", "")
	if err := set.Parse(args); err != nil {
		return Config{}, err
	}
	if set.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	return cfg, cfg.check()
}

// check finds what no single flag can tell.
func (c *Config) check() error {
	switch {
	case strings.HasPrefix(c.ReadyCheck, "/") && c.Started == "":
		return errors.New("--ready-check=http: without --started=")
	case c.MaxConnections < 0:
		return errors.New("--max-connections= is negative")
	case c.Container == "":
		return errors.New("--container= is missing")
	case !strings.HasSuffix(c.Container, ".service") || strings.Contains(c.Container, "/"):
		return fmt.Errorf("--container=%s is not the name of a service unit", c.Container)
	case c.PIDFile != "" && !filepath.IsAbs(c.PIDFile):
		return fmt.Errorf("--pidfile=%s is not an absolute path", c.PIDFile)
	case c.Entry != "" && !filepath.IsAbs(c.Entry):
		return fmt.Errorf("--entry=%s is not an absolute path", c.Entry)
	case c.Enter != (c.Client != ""):
		return errors.New("--enter and --client= go together")
	case c.Enter && (c.PIDFile == "" || c.Native || c.Entry != "" || len(c.Forwards) > 0):
		return errors.New("--enter wants --pidfile=, and excludes --entry=, --native and --forward=")
	case c.Enter:
		return nil
	case c.PIDFile != "" && c.Entry != "", c.inside() && c.HostNetwork:
		return errors.New("--pidfile=, --entry= and --host-network exclude each other")
	case c.Native && (c.inside() || c.HostNetwork || len(c.Forwards) > 0):
		return errors.New("--native excludes --pidfile=, --entry=, --host-network and --forward=")
	case len(c.Forwards) == 0 && !c.Native:
		return errors.New("--forward= is missing")
	}
	return nil
}

// inside reports whether the targets are in the container's network namespace.
func (c *Config) inside() bool { return c.PIDFile != "" || c.Entry != "" }

func (c *Config) setReadyCheck(s string) error {
	path, http := strings.CutPrefix(s, "http:")
	if s != NoCheck && (!http || !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' })) {
		return errors.New("want none or http:/PATH")
	}
	c.ReadyCheck = path
	return nil
}

func (c *Config) setProxyProtocol(s string) error {
	versions := map[string]int{"v1": 1, "v2": 2}
	if versions[s] == 0 {
		return errors.New("want v1 or v2")
	}
	c.ProxyProtocol = versions[s]
	return nil
}

func (c *Config) setClientAddress(s string) error {
	if s != "client" && s != "proxy" {
		return errors.New("want client or proxy")
	}
	c.HideClient = s == "proxy"
	return nil
}

func (c *Config) addAllowed(s string) error {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		c.AllowFrom = append(c.AllowFrom, p)
	}
	return err
}

func (c *Config) addVolume(s string) error {
	if !filepath.IsAbs(s) {
		return errors.New("not an absolute path")
	}
	c.Volumes = append(c.Volumes, filepath.Clean(s))
	return nil
}

// timeSpan is a positive duration flag that knows infinity.
type timeSpan time.Duration

func (t *timeSpan) String() string {
	if time.Duration(*t) == Infinity {
		return "infinity"
	}
	return time.Duration(*t).String()
}

func (t *timeSpan) Set(s string) error {
	if s == "infinity" {
		*t = timeSpan(Infinity)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("want a time such as 1m30s, or infinity")
	}
	if d <= 0 {
		return errors.New("want more than zero")
	}
	*t = timeSpan(d)
	return nil
}

// forwardList collects --forward flags. One public address has one target.
type forwardList []Forward

func (l *forwardList) String() string { return fmt.Sprint([]Forward(*l)) }

func (l *forwardList) Set(s string) error {
	left, right, ok := strings.Cut(s, "=")
	if !ok {
		return errors.New("want LISTEN=TARGET")
	}
	listen, err := ParseAddress(left)
	if err != nil {
		return err
	}
	target, err := ParseAddress(right)
	if err != nil {
		return err
	}
	if target.IP.IsValid() && target.IP.Addr().IsUnspecified() {
		return fmt.Errorf("%s is no address to connect to", right)
	}
	if (listen.Network == UDP) != (target.Network == UDP) {
		return fmt.Errorf("%s leads from datagrams to a stream, or the other way round", s)
	}
	f := Forward{Listen: listen.ListenKey(), Target: target}
	for _, other := range *l {
		if other.Listen == f.Listen {
			return fmt.Errorf("%s is forwarded twice", left)
		}
	}
	*l = append(*l, f)
	return nil
}
