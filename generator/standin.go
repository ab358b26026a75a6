package generator

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// A stand-in has a container's names on a network, and its labels, awake or
// asleep. It is a container that Podman runs from a directory of zerolet's: one
// process (cmd/zerolet-standin) that listens, and passes its sockets to the proxy
// when a client comes. The container itself does not bear the names there.

// joined is a network of the stand-in.
type joined struct {
	name    string // as Podman calls it
	file    *quadlet.File
	device  string // its interface, by which the proxy knows the sockets
	options []string
}

// standIn is that of an endpoint; networks is empty if it has none.
type standIn struct {
	networks []joined
	names    []string // of the container, which are the stand-in's there
	renamed  string   // what the container is called instead, or ""
	left     []string // the lines of Network= that the container has left
	first    []string // the units that come after the container, and so after the stand-in
}

// hasStandIn reports whether the endpoint has one.
func (e *Endpoint) hasStandIn() bool { return len(e.standIn.networks) > 0 }

// NamesOn are the names of the container on the network of a forward, if it is one.
func (e *Endpoint) NamesOn(f Forward) []string {
	if f.Device == "" {
		return nil
	}
	return e.standIn.names
}

// networkFile is the .network file of a name, as Network= has it.
func networkFile(files []*quadlet.File, name string) *quadlet.File {
	i := slices.IndexFunc(files, func(f *quadlet.File) bool { return f.Name() == name && f.Kind() == "Network" })
	if i < 0 {
		return nil
	}
	return files[i]
}

// podmanNetwork is what Podman calls the network of a file.
func podmanNetwork(f *quadlet.File) string {
	if e, ok := f.Last("Network", "NetworkName"); ok && e.Value != "" {
		return e.Value
	}
	return "systemd-" + strings.TrimSuffix(f.Name(), filepath.Ext(f.Name()))
}

// resolve finds a network by the name of its file or by that which Podman has for
// it.
func resolve(files []*quadlet.File, value string) (name string, file *quadlet.File) {
	if strings.HasSuffix(value, ".network") {
		if file = networkFile(files, value); file != nil {
			return podmanNetwork(file), file
		}
		return value, nil
	}
	for _, f := range files {
		if f.Kind() == "Network" && podmanNetwork(f) == value {
			return value, f
		}
	}
	return value, nil
}

// findStandIns settles who has a stand-in on which network, and how the container
// gets out of its way. Two files cannot have one name on a network: clients would
// reach one or the other.
func (p *Plan) findStandIns(files []*quadlet.File) {
	type place struct{ network, name string }
	owners := make(map[place]scale.Listener)
	for _, e := range p.Endpoints {
		if e.Refused() {
			continue
		}
		e.joinNetworks(files)
		if e.Refused() || !e.hasStandIn() {
			continue
		}
		e.stepAside(files)
		for _, l := range e.Spec.OnNetworks() {
			network, _ := resolve(files, l.HostNetwork)
			for _, name := range e.standIn.names {
				other, taken := owners[place{network, name}]
				if taken && other.Pos != l.Pos {
					e.clash(l.Pos, other.Pos, "give one of the two another ContainerName= or NetworkAlias=",
						fmt.Sprintf("the name %s on network %s is already claimed at", name, network),
						fmt.Sprintf("the name %s on network %s is claimed, too, at", name, network))
				}
			}
		}
		for _, l := range e.Spec.OnNetworks() {
			network, _ := resolve(files, l.HostNetwork)
			for _, name := range e.standIn.names {
				owners[place{network, name}] = l
			}
		}
	}
}

// joinNetworks finds the networks of the stand-in, each once.
func (e *Endpoint) joinNetworks(files []*quadlet.File) {
	taken := make(map[string]scale.Listener)
	for _, l := range e.Spec.OnNetworks() {
		name, file := resolve(files, l.HostNetwork)
		e.checkNetwork(l, name, file, files)
		key := fmt.Sprint(name, ":", l.HostPort)
		if other, found := taken[key]; found {
			e.Diagnostics.Errorf(l.Pos, "remove one of the two", "port %d of network %s is already claimed at %s", l.HostPort, name, other.Pos)
		}
		taken[key] = l
		if slices.ContainsFunc(e.standIn.networks, func(j joined) bool { return j.name == name }) {
			continue
		}
		e.standIn.networks = append(e.standIn.networks, joined{name: name, file: file, device: e.standIn.newDevice(name)})
	}
}

// checkNetwork refuses a network that is not there, and one that knows no names.
func (e *Endpoint) checkNetwork(l scale.Listener, name string, file *quadlet.File, files []*quadlet.File) {
	const dns = "names are found on networks that Podman has made with DNS: a NAME.network file, or podman network create"
	modes := []string{"bridge", "container", "host", "none", "ns", "pasta", "podman", "private", "slirp4netns"}
	switch {
	case slices.Contains(modes, name):
		e.Diagnostics.Errorf(l.Pos, dns, "%s is no network on which a container has a name", name)
	case file != nil && !scale.ValidUnit(file.Unit()):
		e.Diagnostics.Errorf(l.Pos, dns, "%s makes no network", file.Name())
	case file != nil:
		if off, ok := file.Last("Network", "DisableDNS"); ok {
			if disabled, err := scale.ParseBool(off.Value); err == nil && disabled {
				e.Diagnostics.Errorf(l.Pos, "remove DisableDNS= there", "network %s knows no names: %s", name, off.Pos)
			}
		}
		// "for other drivers it is always disabled" (podman-network-create(1), --disable-dns).
		if driver, ok := file.Last("Network", "Driver"); ok && driver.Value != "" && driver.Value != "bridge" {
			e.Diagnostics.Errorf(l.Pos, "name a network of the bridge driver", "network %s knows no names: %s", name, driver.Pos)
		}
	case strings.HasSuffix(l.HostNetwork, ".network"):
		e.Diagnostics.Errorf(l.Pos, "write the file, or the name by which Podman knows the network", "there is no file %s", l.HostNetwork)
	default:
		e.checkMade(l, name, files)
	}
}

// checkMade does the same for a network that is known by its name alone.
func (e *Endpoint) checkMade(l scale.Listener, name string, files []*quadlet.File) {
	// What podman network inspect tells.
	var network struct {
		DNS bool `json:"dns_enabled"`
	}
	kept, err := os.ReadFile(e.search.Expand(networksDir(e.manager) + name + ".json"))
	switch {
	case err == nil:
		if err := json.Unmarshal(kept, &network); err == nil && !network.DNS {
			e.Diagnostics.Errorf(l.Pos, "make it anew without --disable-dns, as a bridge", "network %s knows no names", name)
		}
	case !e.inNetwork(name, files):
		e.Diagnostics.Errorf(l.Pos, "name a NAME.network file, or make the network first: podman network create "+name+"; where an address is meant, write it in numbers",
			"there is no network %s", name)
	}
}

// inNetwork reports whether the file has the container in a network.
func (e *Endpoint) inNetwork(name string, files []*quadlet.File) bool {
	return slices.ContainsFunc(e.lines("Network"), func(entry quadlet.Entry) bool {
		value, _, _ := strings.Cut(entry.Value, ":")
		network, _ := resolve(files, value)
		return network == name
	})
}

// newDevice is a name for the interface in a network: its own, as far as that can
// be one (dev_valid_name() in the kernel's net/core/dev.c; a dot would be a
// directory to sysctl(8)).
func (s standIn) newDevice(network string) string {
	const longest = 15 // IFNAMSIZ, less its NUL
	device := strings.Map(func(r rune) rune {
		if r == '.' || r == '%' {
			return '-'
		}
		return r
	}, network)
	device = device[:min(len(device), longest)]
	for n := 0; slices.Contains([]string{"lo", "all", "default"}, device) ||
		slices.ContainsFunc(s.networks, func(j joined) bool { return j.device == device }); n++ {
		suffix := fmt.Sprint("-", n)
		device = device[:min(len(device), longest-len(suffix))] + suffix
	}
	return device
}

// device is that of the stand-in in the network of a listener.
func (e *Endpoint) device(l scale.Listener) string {
	for _, j := range e.standIn.networks {
		if j.name == l.HostNetwork || j.file != nil && j.file.Name() == l.HostNetwork {
			return j.device
		}
	}
	return ""
}

// own is a value of the container's unit, for another unit: what tells of the unit
// there is replaced (systemd.unit(5), "Specifiers"), the rest is the same.
func (e *Endpoint) own(value string) string {
	value, _ = e.Spec.File.ExpandInstance(value)
	unit := literal(e.Spec.Unit)
	means := []string{"%%", "%%", "%n", unit + ".service", "%N", unit}
	if !strings.Contains(unit, "@") {
		last := unit[strings.LastIndexByte(unit, '-')+1:]
		means = append(means, "%p", unit, "%P", unit, "%j", last, "%J", last, "%i", "", "%I", "")
	}
	return strings.NewReplacer(means...).Replace(value)
}

// lines are the assignments of a key in the section of the container, or of the pod.
func (e *Endpoint) lines(key string) []quadlet.Entry {
	return e.Spec.File.All(e.Spec.File.Kind(), key)
}

// last is the one that counts, if it is not empty.
func (e *Endpoint) last(key string) (quadlet.Entry, bool) {
	entry, ok := e.Spec.File.Last(e.Spec.File.Kind(), key)
	return entry, ok && entry.Value != ""
}

// nameKey is the key by which Podman names the container, or the pod.
func (e *Endpoint) nameKey() string {
	if e.isPod() {
		return "PodName"
	}
	return "ContainerName"
}

// containerName is the name that Podman has in a network. All of a pod is found there
// by the pod's name, and by that of none of its containers (getNetworkPodName() in
// Podman's libpod/networking_common.go).
func (e *Endpoint) containerName() string {
	name, _ := podmanName(e.Spec.File)
	return name
}

// stepAside settles what becomes of the container on the networks of its stand-in.
func (e *Endpoint) stepAside(files []*quadlet.File) {
	s := &e.standIn
	s.names = []string{e.own(e.containerName())}
	for _, alias := range e.lines("NetworkAlias") { // --network-alias takes several, too
		s.names = append(s.names, strings.Split(e.own(alias.Value), ",")...)
	}
	host, hasHost := e.last("HostName") // a name, too, since Podman 4.7
	if hasHost && !slices.Contains(s.names, e.own(host.Value)) {
		s.names = append(s.names, e.own(host.Value))
	}
	if i := slices.IndexFunc(s.names, func(name string) bool { return name == "" || strings.Contains(name, ",") }); i >= 0 {
		e.Diagnostics.Errorf(e.Spec.OnNetworks()[0].Pos, "write it without a comma", "%q is no name on a network", s.names[i])
		return
	}
	others, open := 0, false // networks of the container besides these
	for _, entry := range e.lines("Network") {
		value, options, _ := strings.Cut(entry.Value, ":")
		name, file := resolve(files, value)
		i := slices.IndexFunc(s.networks, func(j joined) bool { return j.name == name })
		if i < 0 {
			others++
			open = open || !isInternal(file)
			continue
		}
		s.left = append(s.left, entry.Value)
		s.take(i, e.own(options))
	}
	if len(s.left) == 0 {
		return
	}
	for _, key := range []string{"IP", "IP6"} {
		if entry, ok := e.last(key); ok && others == 0 {
			s.networks[0].options = append(s.networks[0].options, strings.ToLower(key)+"="+e.own(entry.Value))
		}
	}
	at := e.Spec.OnNetworks()[0].Pos
	how, why := e.Spec.StandIn, "it has no other network to the outside"
	forced := how != scale.StandInAuto
	if !forced {
		how = scale.StandInRename
		if lost := e.loses(files); lost != "" {
			why = lost + ", which it needs, is on none of its other networks"
		} else if open {
			how = scale.StandInLeave
		}
	}
	network := s.networks[0].name
	switch {
	case how == scale.StandInLeave && others == 0:
		e.Diagnostics.Errorf(e.Spec.StandInPos, "write StandIn=rename, or give the container another network, too", "the container would be left without a network")
	case how == scale.StandInLeave && !forced:
		e.Diagnostics.Warnf(at, "StandIn=leave says that this is meant; StandIn=rename keeps it there, as "+s.names[0]+"-app",
			"the container leaves network %s, where %s is its stand-in now", network, s.names[0])
	case how == scale.StandInRename:
		s.renamed = s.names[0] + "-app"
		e.checkGuests(at, files)
		if hasHost {
			e.Diagnostics.Errorf(host.Pos, "remove it, or write StandIn=leave, with another network besides",
				"what is renamed is still found on network %s by its HostName=, past its stand-in", network)
		}
		if !forced {
			what, command := "container", "podman exec"
			if e.isPod() {
				what, command = "pod", "podman pod"
			}
			e.Diagnostics.Warnf(at, command+" takes "+s.renamed+" now; StandIn=rename says that this is meant",
				"the %s is called %s, and %s is its stand-in: %s", what, s.renamed, s.names[0], why)
		}
	}
}

// loses is the service of something that the container needs and would not find if it
// left the networks of its stand-in, "" if there is none.
func (e *Endpoint) loses(files []*quadlet.File) string {
	var needed []string
	for _, key := range pulling() {
		for _, entry := range e.Spec.File.All("Unit", key) {
			needed = append(needed, entry.Words()...)
		}
	}
	for _, f := range files {
		service := wire.Container.Of(f.Unit())
		if f == e.Spec.File || !slices.Contains(needed, service) && !slices.Contains(needed, f.Name()) {
			continue
		}
		left, kept := false, false // networks that both are on
		for _, entry := range f.All(f.Kind(), "Network") {
			value, _, _ := strings.Cut(entry.Value, ":")
			name, _ := resolve(files, value)
			stands := slices.ContainsFunc(e.standIn.networks, func(j joined) bool { return j.name == name })
			left = left || stands
			kept = kept || !stands && e.inNetwork(name, files)
		}
		if left && !kept {
			return service
		}
	}
	return ""
}

// checkGuests refuses to rename a container whose network is another one's, too, by a
// name that is not renamed with it: the file says it, or stock Quadlet converts that.
func (e *Endpoint) checkGuests(at quadlet.Pos, files []*quadlet.File) {
	if e.isPod() {
		return // its containers know it by its file
	}
	name := e.containerName()
	for _, f := range files {
		for _, entry := range f.All("Container", "Network") {
			if entry.Value == "container:"+name || entry.Value == e.Spec.File.Name() && !scale.HasSection(f) {
				e.Diagnostics.Errorf(at, "write StandIn=leave, with another network for the container; or add the section to "+f.Name(),
					"the container cannot be renamed: another one is in its network by its name %s", entry.Pos)
			}
		}
	}
}

// take gives the stand-in the options that the container has on a network: its
// address, too.
func (s *standIn) take(i int, options string) {
	for option := range strings.SplitSeq(options, ",") {
		switch key, value, _ := strings.Cut(option, "="); key {
		case "alias":
			if !slices.Contains(s.names, value) {
				s.names = append(s.names, value)
			}
		case "ip", "ip6", "mac":
			s.networks[i].options = append(s.networks[i].options, option)
		}
	}
}

// isInternal reports whether a network is known to lead nowhere but to its own
// containers.
func isInternal(f *quadlet.File) bool {
	if f == nil {
		return false
	}
	e, ok := f.Last("Network", "Internal")
	internal, err := scale.ParseBool(e.Value)
	return ok && err == nil && internal
}

// aside is what the container has instead of what its file says.
func (e *Endpoint) aside() []convert.Setting {
	s := e.standIn
	var settings []convert.Setting
	if labels, moved := e.labels(); len(moved) > 0 {
		settings = append(settings, instead("Label", labels...)...)
	}
	if len(s.left) == 0 {
		return settings
	}
	var networks []string
	for _, entry := range e.lines("Network") {
		switch {
		case !slices.Contains(s.left, entry.Value) && s.renamed == "":
			networks = append(networks, entry.Value)
		case !slices.Contains(s.left, entry.Value):
			networks = append(networks, withOptions(entry.Value, s.names))
		case s.renamed != "":
			networks = append(networks, withoutNames(entry.Value))
		}
	}
	settings = append(settings, instead("Network", networks...)...)
	if s.renamed != "" {
		settings = append(settings, instead(e.nameKey(), s.renamed)...)
		for _, key := range []string{"NetworkAlias", "IP", "IP6"} {
			if _, ok := e.last(key); ok { // not every Quadlet knows each
				settings = append(settings, instead(key)...)
			}
		}
	}
	return settings
}

// instead has a key have values in place of the file's.
func instead(key string, values ...string) []convert.Setting {
	settings := []convert.Setting{{Key: key}}
	for _, value := range values {
		settings = append(settings, convert.Setting{Key: key, Value: value})
	}
	return settings
}

// withOptions has a renamed container keep its names on another network.
func withOptions(network string, names []string) string {
	sep := ":"
	if strings.Contains(network, ":") {
		sep = ","
	}
	for _, name := range names {
		network += sep + "alias=" + name
		sep = ","
	}
	return network
}

// withoutNames is a Network= without what the stand-in has now.
func withoutNames(network string) string {
	name, options, _ := strings.Cut(network, ":")
	var kept []string
	for option := range strings.SplitSeq(options, ",") {
		switch key, _, _ := strings.Cut(option, "="); key {
		case "", "alias", "ip", "ip6", "mac":
		default:
			kept = append(kept, option)
		}
	}
	if len(kept) == 0 {
		return name
	}
	return name + ":" + strings.Join(kept, ",")
}

// labels are those of the file as Label= takes them: what stays with the container,
// since Podman and zerolet look for it there, and what goes to the stand-in, where
// others find the service by it. Those of a pod are not its containers'.
func (e *Endpoint) labels() (kept, moved []string) {
	for _, entry := range e.Spec.File.All("Container", "Label") {
		for _, label := range entry.Arguments() {
			switch {
			case strings.HasPrefix(label, "io.containers."), strings.HasPrefix(label, "io.podman."),
				strings.HasPrefix(label, "PODMAN_SYSTEMD_UNIT="), label == scale.NativeLabel:
				kept = append(kept, word(label))
			default:
				moved = append(moved, label)
			}
		}
	}
	return kept, moved
}

// standInDir holds one socket for each stand-in, in a directory of its own: that is
// mounted into the stand-in.
const standInDir = "%t/zerolet-standin"

// standInSocket is where the stand-in finds the proxy.
func (e *Endpoint) standInSocket() string { return standInDir + "/" + e.shortName() + "/proxy" }

// forStandIn has the socket unit hold the stand-in's way to the proxy.
func (e *Endpoint) forStandIn(u, s *unit.UnitSection) {
	if !e.hasStandIn() {
		return
	}
	add(s, "ListenSequentialPacket", e.standInSocket())
	add(s, "SocketMode", "0600")
	add(s, "DirectoryMode", "0700")
	add(s, "RemoveOnStop", "yes")
	// Restart= is not for a unit whose network could not be made.
	add(u, "Upholds", e.name(wire.StandIn))
}

// standInUnit runs it while the socket is there.
func (e *Endpoint) standInUnit(l Layout) Unit {
	u := e.about("Stand-in of ",
		"BindsTo", e.name(wire.Socket),
		"After", e.name(wire.Socket),
		"StartLimitIntervalSec", "0")
	for _, j := range e.standIn.networks {
		if j.file != nil {
			add(u, "Requires", j.file.Unit()+".service")
			add(u, "After", j.file.Unit()+".service")
		}
	}
	if len(e.standIn.first) > 0 {
		add(u, "Before", strings.Join(e.standIn.first, " "))
	}
	add(u, "RequiresMountsFor", "%t/containers")
	remove := e.podman() + " rm --force --ignore --time=1 " + e.standInName()
	service := section("Service",
		"Environment", "PODMAN_SYSTEMD_UNIT=%n",
		"Type", "notify",
		"NotifyAccess", "all",
		"Delegate", "yes",
		"KillMode", "mixed",
		"SyslogIdentifier", "%N",
		"ExecStart", strings.Join(e.standInCommand(l), " "),
		"ExecStop", remove,
		"ExecStopPost", "-"+remove,
		"Restart", "always",
		"RestartSec", "1")
	e.allow(service)
	e.sameEnvironment(service)
	return e.unit(e.name(wire.StandIn), Normal, u, service)
}

// comeFirst has the stand-in start before who is ordered after the container: a
// reverse proxy that ends if a name is not there when it starts, at boot.
func (e *Endpoint) comeFirst(ordered []Need) {
	for _, n := range ordered {
		if n.after && !strings.HasSuffix(n.Unit, "@.service") {
			e.standIn.first = append(e.standIn.first, n.Unit)
		}
	}
}

// standInName is what Podman calls the stand-in, after the unit, as Quadlet does with
// what has no ContainerName=. Podman has fewer characters in a name than systemd.
func (e *Endpoint) standInName() string {
	return "systemd-" + regexp.MustCompile(`[^a-zA-Z0-9_.-]`).ReplaceAllString(e.Spec.Unit, "_") + "-standin"
}

// podman is the program that Quadlet has put into the container's service, with the
// options before its command (GlobalArgs=, ContainersConfModule=): they may say which
// networks there are.
func (e *Endpoint) podman() string {
	if run, ok := e.Service.Last("Service", "ExecStart"); ok {
		args := run.Arguments()
		end := slices.IndexFunc(args, func(arg string) bool { return arg == "run" || arg == "pod" })
		if end > 0 && filepath.IsAbs(args[0]) {
			var words []string
			for _, arg := range args[:end] {
				words = append(words, word(e.own(arg)))
			}
			return strings.Join(words, " ")
		}
	}
	return "/usr/bin/podman"
}

// standInCommand is podman-run(1) for a container that can do nothing but what it
// is for. SELinux would not let a confined one connect to a socket that systemd
// listens on.
func (e *Endpoint) standInCommand(l Layout) []string {
	command := []string{
		e.podman(), "run", "--name=" + e.standInName(), "--replace", "--rm", "--cgroups=split", "--sdnotify=container", "--detach",
		"--log-driver=passthrough", "--cap-drop=all", "--security-opt=no-new-privileges", "--security-opt=label=disable",
		"--read-only", "--read-only-tmpfs=false", "--no-hosts",
		word("--mount=type=bind,source=" + filepath.Dir(e.standInSocket()) + ",destination=" + filepath.Dir(wire.StandInProxy) + ",ro"),
	}
	for _, j := range e.standIn.networks {
		options := append([]string{wire.StandInNetwork(j.name, j.device)}, j.options...)
		for _, name := range e.standIn.names {
			options = append(options, "alias="+name)
		}
		command = append(command, word(strings.Join(options, ",")))
	}
	_, labels := e.labels()
	for _, label := range labels {
		command = append(command, word("--label="+e.own(label)))
	}
	var listen []wire.Address
	for _, f := range e.Forwards {
		if f.Device != "" {
			listen = append(listen, wire.StandInAddress(f.Device, f.Listen.HostPort))
			// Who finds containers by labels takes the port that is exposed if no label names one.
			command = append(command, fmt.Sprint("--expose=", f.Listen.HostPort))
		}
	}
	if slices.ContainsFunc(e.Spec.OnNetworks(), func(l scale.Listener) bool { return l.HostPort < 1024 }) {
		// It has no capability for such ports (ip(7), ip_unprivileged_port_start), and its network is its own.
		command = append(command, "--sysctl=net.ipv4.ip_unprivileged_port_start=0")
	}
	command = append(command, "--rootfs", word(literal(l.StandIn)+":O"), "/zerolet-standin")
	for _, arg := range wire.StandInArgs(listen) {
		command = append(command, word(arg))
	}
	return command
}

// sameEnvironment has variables in a label be what they are to the container's
// service, which has the label otherwise (systemd.service(5), "Command lines").
func (e *Endpoint) sameEnvironment(s *unit.UnitSection) {
	_, labels := e.labels()
	if !strings.Contains(strings.Join(labels, ""), "$") {
		return
	}
	for _, entry := range e.Service.Entries {
		if entry.Section == "Service" && slices.Contains([]string{"Environment", "EnvironmentFile"}, entry.Key) {
			if value := e.own(entry.Value); !strings.HasPrefix(value, "PODMAN_SYSTEMD_UNIT=") {
				add(s, entry.Key, value)
			}
		}
	}
}
