package scale

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// Key is a key of the [ScaleToZero] section, and all that is to be said of it:
// the reader, the refusals, the hints, the proxy's command line, the manual,
// explain and export read it here. What may be left empty is Default, InStops and check.
type Key struct {
	Name    string
	Type    string // what the value is, in words
	Default string // an assignment of this value changes nothing
	Doc     string // one sentence
	Where   Where  // it has a meaning
	Export  Export
	InStops bool // Spec.Stops tells what comes of it, too

	proxy   func(*Spec, *wire.Config)                        // what the proxy is told, or untold
	parse   func(*Spec, string) error                        // an empty value has been replaced by Default
	check   func(*Spec, quadlet.Entry, *quadlet.Diagnostics) // what it excludes, where it is set and has a meaning
	explain func(*Spec) string                               // what comes of it, "" if nothing that is worth a line
}

// Where is a set of the sections in which a key has a meaning.
type Where uint

// The kinds of sections.
const (
	InContainer  Where = 1 << iota // of a .container file
	InPod                          // of a .pod file, whose ports are all its containers'
	InKube                         // of a .kube file, likewise
	WithoutPorts                   // of a container that runs while others need it
	WithNative                     // with Mode=native
	OnPorts                        // whose clients connect to no unix socket

	anyFile = InContainer | InPod | InKube
	proxied = anyFile | OnPorts // what the proxy does
)

// In reports whether the key has a meaning in all of these.
func (k Key) In(where Where) bool { return k.Where&where == where }

// Explain tells what comes of the key in a section, set or not. It is empty
// where that is not worth a line.
func (k Key) Explain(s *Spec) string { return k.explain(s) }

// Export is what becomes of a key with another engine: one of the three.
type Export struct {
	As   []string // what it is there
	Lost string   // there is nothing like it: what to do instead
	Note string   // it is done in another way, and nothing is lost: in which
}

// keys are in the order in which a client meets them.
var keys = []Key{
	{
		Name: "Listen", Type: "PublishPort= syntax, repeatable",
		Doc:   "what to listen on and which container port it leads to; without it every PublishPort= of the file; NETWORK.network:PORT: the container's names on that network, beside these",
		Where: anyFile | WithNative | OnPorts, Export: Export{As: []string{"containerPort"}},
		proxy: untold,
		parse: (*Spec).listen, explain: onItsOwnLine,
	},
	{
		Name: "StandIn", Type: "auto, leave or rename", Default: StandInAuto,
		Doc:    "how the container, or the pod, leaves its names on a network of Listen= to its stand-in; leave: it is not on that network; rename: it is there as NAME-app; auto: it leaves if it has another network that is not internal, and there finds all that it needs",
		Where:  InContainer | InPod | WithNative | OnPorts,
		Export: Export{Note: "a Service has its name while its app sleeps"},
		proxy:  untold,
		parse: func(s *Spec, v string) (err error) {
			s.StandIn, err = oneOf(v, StandInAuto, StandInLeave, StandInRename)
			return err
		},
		check: (*Spec).checkStandInKey, explain: onItsOwnLine,
	},
	{
		Name: "AllowFrom", Type: "addresses and prefixes, repeatable",
		Doc:   "who may connect, such as 192.0.2.0/24 ::1; others wake nothing; without it, everybody may",
		Where: proxied, Export: Export{Lost: "a NetworkPolicy or the cluster's ingress refuses addresses"},
		proxy: func(s *Spec, c *wire.Config) { c.AllowFrom = s.AllowFrom },
		parse: (*Spec).allow, check: (*Spec).checkAllowed, explain: (*Spec).explainAllowed,
	},
	{
		Name: "WakeBy", Type: "connection or data", Default: "connection",
		Doc:   "what a client has to do to wake the container and to count; data: one that says nothing, as a port scan or a TCP check, does neither, and is closed after a minute",
		Where: proxied, Export: Export{Note: "Knative counts requests of HTTP, and no connections"},
		proxy: func(s *Spec, c *wire.Config) { c.ByData = s.Front.ByData },
		parse: (*Spec).wakeBy, check: (*Spec).checkWakeBy, explain: (*Spec).explainWakeBy,
	},
	{
		Name: "Probe", Type: "paths, repeatable",
		Doc:    "globs of paths without their queries, in which * is all but /; a GET or HEAD of one is answered 200 by the proxy while the container sleeps, wakes nothing, and is no use: while it is awake, the app answers; for what a monitor asks over HTTP",
		Where:  proxied,
		Export: Export{Lost: "let the monitor ask something else: each request to a Service wakes it"},
		proxy:  func(s *Spec, c *wire.Config) { c.Probes = s.Front.Probes },
		parse:  (*Spec).probe, check: (*Spec).checkProbes, explain: (*Spec).explainProbes,
	},
	{
		Name: "IgnoreAgent", Type: "glob, repeatable",
		Doc:    "the same for what an agent asks, whatever the path: a glob of User-Agent such as *UptimeRobot*, in any case",
		Where:  proxied,
		Export: Export{Lost: "let the cluster's ingress keep such agents away: each request to a Service wakes it"},
		proxy:  func(s *Spec, c *wire.Config) { c.IgnoreAgents = s.Front.IgnoreAgents },
		parse:  (*Spec).ignoreAgent, check: (*Spec).checkAgents, explain: (*Spec).explainIgnoreAgents,
	},
	{
		Name: "WaitingPage", Type: "boolean", Default: "no",
		Doc:   "show a browser a page while the container starts, which goes over to the app by itself; all other clients are held as ever",
		Where: proxied, Export: Export{Lost: "Knative holds each request until the app is there"},
		proxy:   func(s *Spec, c *wire.Config) { c.WaitingPage = s.Front.Page },
		parse:   (*Spec).waitingPage,
		check:   (*Spec).checkHeads,
		explain: (*Spec).explainPage,
	},
	{
		Name: "WaitingPageFile", Type: "path",
		Doc:   "a page of one's own for that, in which {{name}}, {{state}}, {{waits}}, {{reason}}, {{usually}} and {{again}} stand for what there is to say",
		Where: proxied, Export: Export{Lost: "Knative holds each request until the app is there"},
		proxy: func(s *Spec, c *wire.Config) { c.WaitingPageFile = s.Front.PageFile },
		parse: (*Spec).waitingPageFile, check: (*Spec).checkPageFile, explain: onItsOwnLine,
	},
	{
		Name: "StartTimeout", Type: "time span", Default: "5min",
		Doc:    "how long a client is held while the container starts; also TimeoutStartSec= of the container unless the file sets one",
		Where:  anyFile | WithoutPorts | WithNative | OnPorts,
		Export: Export{As: []string{"timeoutSeconds", "progress-deadline"}},
		proxy:  func(s *Spec, c *wire.Config) { c.StartTimeout = s.StartTimeout.Duration() },
		parse: func(s *Spec, v string) (err error) {
			s.StartTimeout, err = parsePositive(v, "write infinity to hold clients for as long as they wait")
			return err
		},
		explain: (*Spec).explainStart,
	},
	{
		Name: "ReadyCheck", Type: "tcp, http:/path or none", Default: "tcp",
		Doc:   "when clients are let through; tcp: once the app accepts and does not reset at once; http:/path: once it answers a GET of the path on the first port with 2xx or 3xx; none: once it accepts",
		Where: proxied, Export: Export{As: []string{"readinessProbe"}},
		proxy: (*Spec).tellReadyCheck,
		parse: func(s *Spec, v string) (err error) { s.ReadyCheck, err = parseReadyCheck(v); return err },
		check: (*Spec).checkReadyCheck, explain: (*Spec).explainReadyCheck,
	},
	{
		Name: "MaxConnections", Type: "number", Default: "0",
		Doc:   "how many connections are served at a time; others wait; 0 is no limit",
		Where: proxied, Export: Export{As: []string{"containerConcurrency"}},
		proxy: func(s *Spec, c *wire.Config) { c.MaxConnections = s.MaxConnections },
		parse: func(s *Spec, v string) (err error) { s.MaxConnections, err = parseCount(v); return err },
		explain: func(s *Spec) string {
			return when(s.MaxConnections > 0, "%d connections are served at a time, the others wait", s.MaxConnections)
		},
	},
	{
		Name: "ProxyProtocol", Type: "no, v1 or v2", Default: "no",
		Doc:   "tell the app each client's address, by HAProxy's PROXY protocol at the head of each connection",
		Where: proxied, Export: Export{Lost: "let the app read X-Forwarded-For, which Knative sets"},
		proxy:   func(s *Spec, c *wire.Config) { c.ProxyProtocol = map[string]int{"v1": 1, "v2": 2}[s.ProxyProtocol] },
		parse:   func(s *Spec, v string) (err error) { s.ProxyProtocol, err = oneOf(v, "no", "v1", "v2"); return err },
		check:   (*Spec).checkProxyProtocol,
		explain: (*Spec).explainProxyProtocol,
	},
	{
		Name: "ClientAddress", Type: "client or proxy", Default: "client",
		Doc:     "whose address the app sees on a port in the container's own network; client: each client's, though all come in at loopback; proxy: the container's, as with ProxyProtocol=; never 127.0.0.1",
		Where:   proxied,
		Export:  Export{Note: "with Knative an app sees the address of a proxy, and clients in X-Forwarded-For"},
		proxy:   func(s *Spec, c *wire.Config) { c.HideClient = s.ClientAddress == "proxy" && s.Inside() },
		parse:   func(s *Spec, v string) (err error) { s.ClientAddress, err = oneOf(v, "client", "proxy"); return err },
		explain: (*Spec).explainClientAddress,
	},
	{
		Name: "ConnectionIdleTimeout", Type: "time span", Default: "infinity",
		Doc:    "a connection without a byte for this long no longer keeps the container up; it is closed when the container stops",
		Where:  proxied,
		Export: Export{Lost: "let the app end connections that nothing comes through: Knative counts requests, and ends each after timeoutSeconds"},
		proxy:  (*Spec).tellSilence,
		parse: func(s *Spec, v string) (err error) {
			s.ConnectionIdleTimeout, err = parsePositive(v, "write infinity to switch it off")
			return err
		},
		explain: func(s *Spec) string {
			return when(s.ConnectionIdleTimeout != Infinity, "a connection without a byte for %s no longer counts", s.ConnectionIdleTimeout)
		},
	},
	{
		Name: "IdleTimeout", Type: "time span", Default: "2min", InStops: true,
		Doc:    "how long after the last connection, the last datagram, or the last session of podman exec the container stops; infinity never stops it",
		Where:  anyFile | WithNative | OnPorts,
		Export: Export{As: []string{"min-scale", "scale-to-zero-pod-retention-period"}},
		proxy:  func(s *Spec, c *wire.Config) { c.IdleTimeout = s.IdleTimeout.Duration() },
		parse: func(s *Spec, v string) (err error) {
			s.IdleTimeout, err = parsePositive(v, "write 1s to stop it with its last connection, infinity to never stop it")
			return err
		},
		explain: (*Spec).explainIdle,
	},
	{
		Name: "Sleep", Type: "stop or freeze", Default: SleepStop, InStops: true,
		Doc:    "what becomes of the container after IdleTimeout=; freeze: its processes are frozen where they are, and go on within a millisecond when a client comes; stop: it is stopped, as it is in any case with Exclusive=, WakeBy=data, Probe=, IgnoreAgent= or WaitingPage=, and in a user's manager with AllowFrom=",
		Where:  InContainer | InPod | OnPorts,
		Export: Export{Lost: "Knative stops the pod: let the app start faster, or autoscaling.knative.dev/min-scale keep one"},
		proxy:  (*Spec).tellSleep,
		parse:  (*Spec).sleep, check: (*Spec).checkSleep, explain: (*Spec).explainSleep,
	},
	{
		Name: "StopAfter", Type: "time span", Default: "1h",
		Doc:    "with Sleep=freeze: how long the container is frozen until it is stopped; infinity never stops it",
		Where:  InContainer | InPod | OnPorts,
		Export: Export{Lost: "nothing is frozen there"},
		proxy: func(s *Spec, c *wire.Config) {
			if s.Freezes {
				c.StopAfter = s.StopAfter.Duration()
			}
		},
		parse: func(s *Spec, v string) (err error) {
			s.StopAfter, err = parsePositive(v, "write infinity to have it frozen for as long as nobody comes")
			return err
		},
		check: (*Spec).checkStopAfter, explain: onItsOwnLine,
	},
	{
		Name: "ReclaimMemory", Type: "boolean", Default: "yes",
		Doc:    "with Sleep=freeze: whether the kernel moves the memory of the frozen container to swap or zram, from where it comes back page by page as the app touches it",
		Where:  InContainer | InPod | OnPorts,
		Export: Export{Lost: "nothing is frozen there"},
		proxy:  func(s *Spec, c *wire.Config) { c.Reclaim = s.Freezes && s.Reclaim },
		parse:  func(s *Spec, v string) (err error) { s.Reclaim, err = ParseBool(v); return err },
		check:  (*Spec).checkStopAfter,
		explain: func(s *Spec) string {
			return when(s.Freezes && !s.Reclaim, "its memory stays where it is while it is frozen")
		},
	},
	{
		Name: "BusyCPU", Type: "percentage",
		Doc:    "a container that has used more than this of one processor in the idle time is not idle, such as 20%; without it, only clients and sessions of podman exec count",
		Where:  InContainer | InPod | OnPorts, // the processes of a .kube file are in another cgroup
		Export: Export{Lost: "let the app hold a connection of its own while it works: Knative counts requests"},
		proxy:  func(s *Spec, c *wire.Config) { c.BusyCPU = s.BusyCPU },
		parse:  func(s *Spec, v string) (err error) { s.BusyCPU, err = parsePercent(v); return err },
		explain: func(s *Spec) string {
			return when(s.BusyCPU > 0, "while it uses more than %d%% of a processor, it is not idle", s.BusyCPU)
		},
	},
	{
		Name: "WakeOn", Type: "OnCalendar= syntax, repeatable",
		Doc:   "when to wake the container without a client, such as Mon..Fri 08:00; what falls into a time in which the machine is off is not made up for",
		Where: proxied, Export: Export{Lost: "a CronJob that asks the Service wakes it"},
		proxy: (*Spec).tellCalendar,
		parse: (*Spec).wakeOn,
		explain: func(s *Spec) string {
			return when(len(s.WakeOn) > 0, "the calendar wakes it: %s", strings.Join(s.WakeOn, "; "))
		},
	},
	{
		Name: "StayAwake", Type: "time span", Default: "0",
		Doc:    "the least time from a wake to the stop of the container, however idle; with WakeOn=Mon..Fri 08:00, StayAwake=10h are office hours",
		Where:  proxied,
		Export: Export{Lost: "Knative keeps a pod for an hour at most after its last request: autoscaling.knative.dev/scale-to-zero-pod-retention-period"},
		proxy:  func(s *Spec, c *wire.Config) { c.StayAwake = s.StayAwake.Duration() },
		parse: func(s *Spec, v string) (err error) {
			s.StayAwake, err = parseFinite(v, "write IdleTimeout=infinity for a container that is never stopped")
			return err
		},
		explain: func(s *Spec) string {
			return when(s.StayAwake > 0, "once awake, it stays so for %s at least", s.StayAwake)
		},
	},
	{
		Name: "Exclusive", Type: "name",
		Doc:    "of all services of a manager with the same name here one is awake at a time; a client of another is held until nobody is connected to that one, which then sleeps at once; StartTimeout= counts",
		Where:  proxied,
		Export: Export{Lost: "let the containers ask for the same scarce resource, such as nvidia.com/gpu, of which a node has one"},
		proxy:  func(s *Spec, c *wire.Config) { c.GivesWay = s.Exclusive != "" },
		parse:  func(s *Spec, v string) (err error) { s.Exclusive, err = parseGroup(v); return err },
		check:  (*Spec).checkExclusive,
		explain: func(s *Spec) string {
			return when(s.Exclusive != "", "it is awake only while no other service with Exclusive=%s is; for a client of theirs it sleeps as soon as nobody is connected", s.Exclusive)
		},
	},
	{
		Name: "Mode", Type: "proxy or native", Default: "proxy",
		Doc:    "who accepts the connections: the proxy, or the app itself, from sockets that it takes from systemd (LISTEN_FDS)",
		Where:  InContainer | WithNative | OnPorts, // podman passes sockets to a container, none to a pod
		Export: Export{Lost: "let the app listen on its port itself: Knative passes no sockets"},
		proxy:  func(s *Spec, c *wire.Config) { c.Native = s.Native },
		parse:  (*Spec).mode, check: (*Spec).checkNative,
		explain: func(s *Spec) string {
			return when(s.Native, "the app takes the sockets from systemd; the proxy only watches")
		},
	},
	{
		Name: "AutoStart", Type: "boolean", Default: "yes",
		Doc:   "whether daemon-reload and boot bring the socket up; with no it is left to [Install]",
		Where: anyFile | WithNative | OnPorts, Export: Export{Note: "a Service is served from when it is applied"},
		proxy:   untold,
		parse:   func(s *Spec, v string) (err error) { s.AutoStart, err = ParseBool(v); return err },
		explain: func(s *Spec) string { return when(!s.AutoStart, "nothing starts the socket but [Install] or you") },
	},
	{
		Name: "SocketMode", Type: "octal mode", Default: "0666",
		Doc:   "who may connect to the unix sockets that Listen= makes, as in systemd.socket(5)",
		Where: anyFile | WithNative, Export: ofThisMachine,
		proxy:   untold,
		parse:   func(s *Spec, v string) (err error) { s.Socket.Mode, err = parseMode(v); return err },
		explain: func(s *Spec) string { return when(s.onUnix(), "the unix sockets have mode %04o", s.Socket.Mode) },
	},
	{
		Name: "SocketUser", Type: "user",
		Doc:   "owner of these sockets; a user's manager has no choice",
		Where: anyFile | WithNative, Export: ofThisMachine,
		proxy: untold,
		parse: func(s *Spec, v string) (err error) { s.Socket.User, err = parseName(v); return err },
		check: (*Spec).checkSocketUser,
		explain: func(s *Spec) string {
			return when(s.Socket.User != "", "the unix sockets are user %s's", s.Socket.User)
		},
	},
	{
		Name: "SocketGroup", Type: "group",
		Doc:   "group of these sockets",
		Where: anyFile | WithNative, Export: ofThisMachine,
		proxy: untold,
		parse: func(s *Spec, v string) (err error) { s.Socket.Group, err = parseName(v); return err },
		explain: func(s *Spec) string {
			return when(s.Socket.Group != "", "the unix sockets are group %s's", s.Socket.Group)
		},
	},
	{
		Name: "DirectoryMode", Type: "octal mode", Default: "0755",
		Doc:   "mode of the directories that have to be made for these sockets",
		Where: anyFile | WithNative, Export: ofThisMachine,
		proxy: untold,
		parse: func(s *Spec, v string) (err error) { s.Socket.DirectoryMode, err = parseMode(v); return err },
		explain: func(s *Spec) string {
			return when(s.onUnix(), "directories that have to be made for them have mode %04o", s.Socket.DirectoryMode)
		},
	},
}

// ofThisMachine is what becomes of the keys of unix sockets.
var ofThisMachine = Export{Note: "it is about a unix socket of this machine"}

// Keys are the keys of [ScaleToZero] in the order of the manual.
func Keys() []Key { return slices.Clone(keys) }

// FindKey is the key of a name.
func FindKey(name string) (Key, bool) {
	if i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name }); i >= 0 {
		return keys[i], true
	}
	return Key{}, false
}

// checkKeys goes through what is set in the section.
func (s *Spec) checkKeys(ds *quadlet.Diagnostics) {
	unread := ds.HasErrors() // perhaps of the ports
	for _, k := range keys {
		e, set := s.Setting(k.Name)
		switch {
		case !set:
		case k.isDefault(e.Value) && !s.Dependency(): // nothing is changed
		case !k.In(where(s.File)):
			ds.Errorf(e.Pos, "leave it out", "%s= is not for %s files", k.Name, filepath.Ext(s.File.Path))
		case s.Native && !k.In(WithNative):
			ds.Errorf(e.Pos, "leave one of the two out", "%s= is for the proxy, and with Mode=native nothing is proxied", k.Name)
		case s.Dependency() && !k.In(WithoutPorts) && !unread:
			ds.Errorf(e.Pos, "add PublishPort=8080:80 to ["+s.File.Kind()+"] or Listen=8080:80 to [ScaleToZero]; without a port the "+s.What()+" stops with the last unit that needs it",
				"%s= has no meaning without a port, and the file has none", k.Name)
		case !s.onUnix() && !k.In(OnPorts):
			ds.Warnf(e.Pos, "name one in Listen=, such as %t/web.sock:80", "%s= has no effect: clients connect to no unix socket", k.Name)
		case k.check != nil:
			k.check(s, e, ds)
		}
	}
}

// isDefault reports whether an assignment of a value changes nothing.
func (k Key) isDefault(value string) bool {
	is, err := ParseBool(value)
	usual, unlike := ParseBool(k.Default)
	return k.Default != "" && value == k.Default || err == nil && unlike == nil && is == usual
}

func (s *Spec) didYouMean(name string) string {
	if k := nearest(name); k != "" {
		return fmt.Sprintf("did you mean %s=?", k)
	}
	return "zerolet.container(5) has the keys; those of Podman belong in [" + s.File.Kind() + "], those of systemd in [Unit] or [Service]"
}

// nearest is the key a mistyped name may have meant, or "".
func nearest(name string) string {
	best, at := "", 3
	for _, k := range keys {
		if d := distance(strings.ToLower(name), strings.ToLower(k.Name)); d < at {
			best, at = k.Name, d
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
