package generator

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Layout is what the units depend on besides the plan.
type Layout struct {
	Proxy   string // path of zerolet-proxy
	StandIn string // directory that is the root of a stand-in
	Zerolet string // path of zerolet, which tells why an endpoint was refused
}

// Units spells the plan, and leaves it as it is.
func (p *Plan) Units(l Layout) []Unit {
	var units []Unit
	for _, e := range p.Endpoints {
		if e.Spec.Unit != "" { // else systemd would not load its units
			units = append(units, e.units(l)...)
		}
	}
	units = append(units, p.ownerUnits()...)
	return append(units, p.networkUnits()...)
}

func (e *Endpoint) units(l Layout) []Unit {
	units := e.installMasks()
	switch {
	case e.admin == masked:
		return units
	case e.admin == own:
	case e.Refused():
		return append(units, e.refusal(l))
	default:
		units = append(units, e.keeping(e.service(l), l))
		units = append(units, healthUnits(e.Spec.File, e.Service, e.manager, l)...)
	}
	for _, m := range e.Members {
		if !e.Refused() && m.admin == none {
			units = append(units, e.keeping(m.unit(e, l), l))
			units = append(units, healthUnits(m.File, m.Service, e.manager, l)...)
		}
	}
	if e.Refused() {
		return units
	}
	units = append(units, e.needed()...)
	if len(e.required) > 0 {
		units = append(units, e.needing())
	}
	if e.Spec.Dependency() {
		return units
	}
	if e.Spec.AutoStart {
		units = append(units, e.autoStart()...)
	}
	if e.startedByProxy() {
		units = append(units, e.wake())
	}
	if e.hasWaker() {
		units = append(units, e.wakerSocket(), e.waker(l))
	}
	units = append(units, e.socket())
	if e.Spec.Native {
		units = append(units, e.watcher(l), e.opener(l))
	} else {
		units = append(units, e.proxy(l))
	}
	if e.hasEntry() {
		units = append(units, e.entrySocket(), e.entry(l))
	}
	if len(e.Spec.WakeOn) > 0 {
		units = append(units, e.calendar()...)
	}
	if e.hasStandIn() {
		units = append(units, e.standInUnit(l))
	}
	return append(units, e.installLinks()...)
}

func (e *Endpoint) name(u wire.Unit) string { return u.Of(e.Spec.Unit) }

func (e *Endpoint) unit(name string, p Priority, sections ...*unit.UnitSection) Unit {
	return Unit{Name: name, Priority: p, Source: e.Spec.File.Path, Sections: sections}
}

func (e *Endpoint) link(name string, p Priority, target string) Unit {
	return Unit{Name: name, Priority: p, Source: e.Spec.File.Path, Link: target}
}

// socket holds the ports while nothing runs.
func (e *Endpoint) socket() Unit {
	s := section("Socket")
	ipv6Only := slices.ContainsFunc(e.Forwards, func(f Forward) bool {
		return f.Listen.Host.Is6() && f.Listen.Host.IsUnspecified()
	})
	for _, f := range e.Forwards {
		if f.Listen.HostNetwork != "" {
			continue
		}
		if ipv6Only && f.bare() {
			add(s, f.listenKey(), netip.AddrPortFrom(netip.IPv4Unspecified(), f.Listen.HostPort).String())
			add(s, f.listenKey(), f.bound().String())
			continue
		}
		add(s, f.listenKey(), f.listenValue())
	}
	if ipv6Only {
		// "[::]:80" is IPv6 alone, as Podman publishes it. This is about all
		// sockets of the unit, so that a bare port becomes two.
		add(s, "BindIPv6Only", "ipv6-only")
	}
	if slices.ContainsFunc(e.Forwards, func(f Forward) bool { return f.Listen.Host.IsValid() && !f.Listen.Host.IsUnspecified() }) {
		// The address may come up after the socket.
		add(s, "FreeBind", "yes")
	}
	e.socketFiles(s)
	e.allow(s)
	// As many wait as the kernel lets (net.core.somaxconn): while the app is
	// not there or MaxConnections= are, nobody is refused.
	add(s, "Backlog", "65535")
	if e.Spec.Native {
		keepAlive(s)
	}
	add(s, "Service", e.name(wire.Proxy))
	// The default, 20 starts in 2 s, leaves the socket dead for good when the
	// container cannot start (systemd.socket(5)).
	add(s, "TriggerLimitIntervalSec", "0")
	u := e.about("Sockets of ")
	for _, unit := range e.PartOf {
		add(u, "PartOf", unit)
	}
	e.forStandIn(u, s)
	return e.unit(e.name(wire.Socket), Normal, u, s)
}

// socketFiles says how unix sockets are made. The defaults of the keys are
// systemd's. A socket that nobody listens on any more goes.
func (e *Endpoint) socketFiles(s *unit.UnitSection) {
	if !slices.ContainsFunc(e.Forwards, func(f Forward) bool { return f.Listen.HostPath != "" }) {
		return
	}
	for _, pair := range [][2]string{
		{"SocketMode", fmt.Sprintf("%04o", e.Spec.Socket.Mode)},
		{"SocketUser", e.Spec.Socket.User},
		{"SocketGroup", e.Spec.Socket.Group},
		{"DirectoryMode", fmt.Sprintf("%04o", e.Spec.Socket.DirectoryMode)},
		{"RemoveOnStop", "yes"},
	} {
		if pair[1] != "" {
			add(s, pair[0], pair[1])
		}
	}
}

// allow has the kernel drop the packets of who may not connect at the system's
// sockets (systemd.resource-control(5)). In a user's manager that does nothing
// (tried on systemd 257), nor may a user give a TCP socket a filter
// (SO_ATTACH_FILTER fails with EPERM on Linux 6.18).
func (e *Endpoint) allow(s *unit.UnitSection) {
	if len(e.Spec.AllowFrom) == 0 || e.manager == quadlet.User {
		return
	}
	add(s, "IPAddressDeny", "any")
	for _, p := range e.Spec.AllowFrom {
		add(s, "IPAddressAllow", p.String())
	}
}

// wake keeps the container up in the proxy's place, where that starts for
// whoever comes. The proxy starts it for the first client who may connect,
// and it ends with the proxy.
func (e *Endpoint) wake() Unit {
	u := e.about("Clients of ",
		"BindsTo", e.name(wire.Proxy),
		"After", e.name(wire.Proxy)+" "+strings.Join(e.services(), " "))
	e.uphold(u)
	return e.unit(e.name(wire.Wake), Normal, u)
}

// uphold starts the container, again if it fails or dies. Requires= or BindsTo=
// would fail the proxy with it and kill the socket (systemd#15633). What ends by
// itself is started once.
func (e *Endpoint) uphold(u *unit.UnitSection) {
	add(u, "Upholds", strings.Join(e.upholds(), " "))
	if jobs := e.jobs(); len(jobs) > 0 {
		add(u, "Wants", strings.Join(jobs, " "))
	}
}

// listenKey is the setting of systemd.socket(5) for the public side.
func (f Forward) listenKey() string {
	if f.Listen.Protocol == "udp" {
		return "ListenDatagram"
	}
	return "ListenStream"
}

// listenValue is the public side as ListenStream= has it: a bare port is both
// families.
func (f Forward) listenValue() string {
	switch {
	case f.Listen.HostPath != "":
		return oneLine(f.Listen.HostPath)
	case f.Listen.HostNetwork != "":
		return fmt.Sprintf("%s:%d", f.Listen.HostNetwork, f.Listen.HostPort)
	case f.bare():
		return fmt.Sprint(f.Listen.HostPort)
	}
	return f.bound().String()
}

// bare reports whether the public side is a port of every address.
func (f Forward) bare() bool {
	return f.Listen.HostPath == "" && f.Listen.HostNetwork == "" && !f.Listen.Host.IsValid()
}

// String is the public side as it is told to a person.
func (f Forward) String() string {
	if f.Listen.Protocol == "udp" {
		return f.listenValue() + "/udp"
	}
	return f.listenValue()
}

// bound is the local address of the socket. A bare port is bound to [::].
func (f Forward) bound() netip.AddrPort {
	host := f.Listen.Host
	if !host.IsValid() {
		host = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(host, f.Listen.HostPort)
}

// wire is the forward as zerolet-proxy takes it. Specifiers in paths are systemd's
// to expand, as in ListenStream=.
func (f Forward) wire() wire.Forward {
	network := wire.TCP
	if f.Listen.Protocol == "udp" {
		network = wire.UDP
	}
	listen, target := wire.Address{Network: network, IP: f.bound()}, wire.Address{Network: network, IP: f.Target}
	if f.Listen.HostPath != "" {
		listen = wire.Address{Network: wire.Unix, Path: f.Listen.HostPath}
	}
	if f.Device != "" {
		listen = wire.StandInAddress(f.Device, f.Listen.HostPort)
	}
	if f.Listen.ContainerPath != "" {
		target = wire.Address{Network: wire.Unix, Path: f.Listen.ContainerPath}
	}
	return wire.Forward{Listen: listen, Target: target}
}

// proxy starts with the first connection and keeps the container up.
func (e *Endpoint) proxy(l Layout) Unit {
	service := section("Service",
		"Type", "notify",
		"NotifyAccess", "main",
		"ExecStart", l.command(e.config()),
		"Restart", "on-failure",
		"RestartSec", "1",
		"TimeoutStopSec", scale.Span(wire.DrainTimeout+5*time.Second).String(),
		"LimitNOFILE", "524288",
	)
	e.sandbox(service)
	if len(e.Spec.WakeOn) > 0 {
		add(service, "ExecStopPost", "-+:rm -f "+word(e.calendarPath()))
	}
	u := e.about("Proxy of ",
		// Without Requires= "systemctl restart" of the socket is refused
		// while the proxy runs, and leaves the socket dead.
		"Requires", e.name(wire.Socket),
		"After", e.name(wire.Socket)+" "+strings.Join(e.services(), " "))
	if !e.startedByProxy() {
		e.uphold(u)
	}
	e.thawsAfter(l, service)
	if e.hasEntry() {
		e.reachThrough(u, service)
	}
	if e.hasWaker() {
		e.wakeThrough(u, service)
	}
	if e.Spec.Front.Page {
		e.showPage(service)
	}
	add(u, "StartLimitIntervalSec", "0")
	return e.unit(e.name(wire.Proxy), Normal, u, service)
}

// config is what the proxy is told, with systemd's specifiers in it.
func (e *Endpoint) config() wire.Config {
	c := e.Spec.Proxy()
	c.Container = e.name(wire.Container)
	if c.Native {
		return c
	}
	c.Members = e.MemberServices()
	c.HostNetwork = e.Spec.Network == scale.Host && e.Spec.DialsPorts()
	c.DrainTimeout = wire.DrainTimeout
	c.Volumes = e.volumes()
	c.Forwards = e.forwards()
	switch {
	case e.entered():
		c.Entry = e.entryPath()
	case e.hasEntry():
		c.EntryOutside = e.entryPath()
	case e.Inside():
		c = e.found(c)
	}
	c.Freeze = e.Frozen()
	if e.hasStandIn() {
		c.StandIn = e.standInSocket()
	}
	if e.startedByProxy() {
		c.Start = e.name(wire.Wake)
	}
	if e.hasWaker() {
		c.Start = e.wakerPath()
	}
	if c.WaitingPage {
		c.WakeTimes, c.WakeResult = e.wakeTimes(), e.wakeResult()
	} else {
		c.WaitingPageFile = ""
	}
	c.Probes, c.IgnoreAgents = literals(c.Probes), literals(c.IgnoreAgents)
	if c.Calendar != "" {
		c.Calendar = e.calendarPath()
	}
	if strings.HasPrefix(c.ReadyCheck, "/") {
		c.ReadyCheck, c.Started = literal(c.ReadyCheck), []string{e.pidFile()}
		for _, m := range e.Members {
			c.Started = append(c.Started, m.pidFile())
		}
	}
	return c
}

// forwards are those of the proxy, which takes "0.0.0.0" and "[::]" as one.
func (e *Endpoint) forwards() []wire.Forward {
	var forwards []wire.Forward
	wildcards := make(map[claim]bool)
	for _, f := range e.Forwards {
		if claim := claimOf(f.Listen); f.Device == "" && f.bound().Addr().IsUnspecified() {
			if wildcards[claim] {
				continue
			}
			wildcards[claim] = true
		}
		forwards = append(forwards, f.wire())
	}
	return forwards
}

// command is the ExecStart= of zerolet-proxy.
func (l Layout) command(c wire.Config) string {
	words := []string{":" + word(literal(l.Proxy))}
	for _, arg := range c.Args() {
		words = append(words, word(arg))
	}
	return strings.Join(words, " ")
}

// service is the container's unit: Quadlet's, but for what sleeping needs.
func (e *Endpoint) service(l Layout) Unit {
	u := e.unit(e.name(wire.Container), Early, sections(e.Service)...)
	e.sleeps(&u, e.Service)
	if e.endsAlone() {
		staysEnded(&u, e.Service)
	}
	if e.Spec.Native {
		e.takeSockets(&u)
	}
	e.takeTurn(l, &u)
	e.takePlace(l, &u)
	e.thawsFirst(l, &u)
	e.turnRound(&u)
	wantsHealth(&u, e.Spec.File, e.Service)
	e.followOwner(&u)
	if e.joined {
		leavesNothing(&u, e.Spec.File)
	}
	files := leftovers(e.Service)
	switch {
	case e.isKube() && e.asksHTTP():
		set(&u, "Service", "ExecStartPre", "touch "+word(e.pidFile()))
		files = append(files, word(e.pidFile()))
	case e.asksPID() && !e.isPod() && !e.isKube():
		files = append([]string{word(e.pidFile())}, files...)
	}
	removeLater(&u, files)
	e.tellResult(&u)
	return u
}

// sleeps has the unit of a container, or of one of a pod, run only while it is
// needed.
func (e *Endpoint) sleeps(u *Unit, service *quadlet.File) {
	set(u, "Unit", "Documentation", wire.Documentation)
	stopsUnneeded(u, service)
	// Long enough for the image to be pulled.
	if !declared(service, "Service", "TimeoutStartSec", "TimeoutSec") {
		set(u, "Service", "TimeoutStartSec", e.Spec.StartTimeout.String())
	}
	endsBySIGTERM(u)
}

// stopsUnneeded has a container's unit stop when nobody needs it, and start as often
// as somebody does.
func stopsUnneeded(u *Unit, f *quadlet.File) {
	set(u, "Unit", "StopWhenUnneeded", "yes")
	// Who needs the container brings it back (Upholds=, BindsTo=). With Restart=
	// one that cannot start would go on for ever, clients or none:
	// StopWhenUnneeded= does not see a unit between two tries.
	if declared(f, "Service", "Restart") {
		set(u, "Service", "Restart", "no")
	}
	// Every wake counts as a start; systemd's 5 in 10 s would end the service.
	if !declared(f, "Unit", "StartLimitIntervalSec", "StartLimitInterval", "StartLimitBurst") {
		set(u, "Unit", "StartLimitIntervalSec", "0")
	}
}

// endsBySIGTERM has an app that ends so when its container is stopped not fail.
func endsBySIGTERM(u *Unit) { set(u, "Service", "SuccessExitStatus", "143") }

// leftovers are the files that Podman leaves when the container is gone: besides
// the pid file (tried on 5.4) the cid file on 4.3, which then refuses the next
// start. What a pod leaves, systemd and podman pod rm remove.
func leftovers(service *quadlet.File) []string {
	const cidFile = "%t/%N.cid"
	if run, ok := service.Last("Service", "ExecStart"); ok && strings.Contains(run.Value, "--cidfile="+cidFile) {
		return []string{cidFile}
	}
	return nil
}

func removeLater(u *Unit, files []string) {
	if len(files) > 0 {
		set(u, "Service", "ExecStopPost", "-rm -f "+strings.Join(files, " "))
	}
}

// ServiceUnit is the container's unit as entries, for those who compare it.
func (e *Endpoint) ServiceUnit() []quadlet.Entry {
	var out []quadlet.Entry
	for _, s := range e.service(Layout{}).Sections {
		for _, entry := range s.Entries {
			out = append(out, quadlet.Entry{Section: s.Section, Key: entry.Name, Value: entry.Value})
		}
	}
	return out
}

// sections are the sections of Quadlet's unit, each opened once. [Install]
// goes to the socket. systemd warns of a section that it does not know unless
// its name begins with "X-".
func sections(f *quadlet.File) []*unit.UnitSection {
	var out []*unit.UnitSection
	index := make(map[string]*unit.UnitSection)
	for _, entry := range f.Entries {
		name := entry.Section
		switch name {
		case "Install":
			continue
		case "ScaleToZero", "Quadlet":
			name = "X-" + name
		}
		s, ok := index[name]
		if !ok {
			s = section(name)
			index[name] = s
			out = append(out, s)
		}
		add(s, entry.Key, entry.Value)
	}
	return out
}

func declared(f *quadlet.File, section string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool {
		e, ok := f.Last(section, key)
		return ok && e.Value != ""
	})
}

// set adds a setting at the end of a section.
func set(u *Unit, name, key, value string) {
	i := slices.IndexFunc(u.Sections, func(s *unit.UnitSection) bool { return s.Section == name })
	if i < 0 {
		u.Sections = append(u.Sections, section(name))
		i = len(u.Sections) - 1
	}
	add(u.Sections[i], key, value)
}

// setFirst adds a command before all others in a service. An empty one of the file
// clears what stands before it.
func setFirst(u *Unit, key, value string) {
	for _, s := range u.Sections {
		if s.Section != "Service" {
			continue
		}
		first := 0
		for i, entry := range s.Entries {
			if entry.Name == key && entry.Value == "" {
				first = i + 1
			}
		}
		s.Entries = slices.Insert(s.Entries, first, &unit.UnitEntry{Name: key, Value: value})
	}
}

// refusal takes the place of the container's service when the file has an
// error: stock Quadlet's unit of the same name would run unscaled. Starting it
// says what is wrong.
func (e *Endpoint) refusal(l Layout) Unit {
	return e.unit(e.name(wire.Container), Early,
		e.about("Refused: ", "Documentation", wire.Refused),
		section("Service",
			"Type", "oneshot",
			"ExecStart", fmt.Sprintf(":%s check %s %s", word(literal(l.Zerolet)), scope(e.manager), word(literal(e.Spec.File.Path)))))
}

// scope is the option of systemctl, and of zerolet, that means the manager.
func scope(m quadlet.Manager) string {
	if m == quadlet.User {
		return "--user"
	}
	return "--system"
}

// autoStart has sockets.target, which is active in every manager, bring the
// socket up at daemon-reload and at boot, and again should it fail. A drop-in
// works since systemd 249, an .upholds/ directory since 254. What is part of
// another unit comes up with that one instead: it would be back at once when
// that has been stopped. Of several, one that runs must not bring back what
// another has stopped.
func (e *Endpoint) autoStart() []Unit {
	dropin := func(unit, prefix, key string) Unit {
		return e.unit(filepath.Join(unit+".d", prefix+e.Spec.Unit+".conf"), Normal, section("Unit", key, e.name(wire.Socket)))
	}
	if len(e.PartOf) == 0 {
		return []Unit{dropin("sockets.target", "50-zerolet-", "Upholds")}
	}
	key := "Upholds"
	if len(e.PartOf) > 1 {
		key = "Wants"
	}
	var units []Unit
	for _, unit := range e.PartOf {
		units = append(units, dropin(unit, "51-zerolet-", key)) // 50 is what needed makes
	}
	return units
}

// install are the units that [Install] of files names, by the suffix of the
// directory in which systemd looks for the links.
func install(files ...*quadlet.File) map[string][]string {
	dirs := make(map[string][]string)
	for _, f := range files {
		for key, suffix := range map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires", "UpheldBy": ".upholds"} {
			for _, entry := range f.All("Install", key) {
				for _, name := range entry.Words() {
					if !strings.Contains(name, "/") && !slices.Contains(dirs[suffix], name) { // as stock Quadlet
						dirs[suffix] = append(dirs[suffix], name)
					}
				}
			}
		}
	}
	return dirs
}

// installedName is the name of the service that [Install] is about: of a template
// it is the default instance, or none (enableServiceFile in Podman's
// cmd/quadlet/main.go).
func installedName(f *quadlet.File) string {
	if !scale.ValidUnit(f.Unit()) || f.IsTemplate() && f.DefaultInstance() == "" {
		return ""
	}
	return wire.Container.Of(f.Unit())
}

// installMasks cancel the links that stock Quadlet makes of [Install] for the
// container, which would start it at boot and keep it up.
func (e *Endpoint) installMasks() []Unit {
	var links []Unit
	for _, f := range e.Files() {
		links = append(links, e.installed(Early, install(f), installedName(f), "/dev/null")...)
	}
	return links
}

// installLinks apply [Install] to the socket.
func (e *Endpoint) installLinks() []Unit {
	return e.installed(Normal, install(e.Files()...), e.name(wire.Socket), filepath.Join("..", e.name(wire.Socket)))
}

func (e *Endpoint) installed(p Priority, dirs map[string][]string, name, target string) []Unit {
	var links []Unit
	if name == "" {
		return nil
	}
	for _, suffix := range []string{".wants", ".requires", ".upholds"} {
		for _, by := range dirs[suffix] {
			links = append(links, e.link(filepath.Join(by+suffix, name), p, target))
		}
	}
	return links
}
