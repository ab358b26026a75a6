package scale

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Network says how the container's ports are reached.
type Network int

const (
	// Namespace is a network namespace of the container's own.
	Namespace Network = iota
	// Host is the host's network: the app binds host addresses itself.
	Host
)

// Spec is what a .container file with a [ScaleToZero] section asks for.
type Spec struct {
	File         *quadlet.File
	Unit         string // name of the service without ".service"; "" if it cannot be one
	IdleTimeout  Span
	StartTimeout Span
	AutoStart    bool
	Native       bool // the app itself accepts from the sockets
	Listen       []Listener
	Published    []Published
	Network      Network
	Socket       Socket

	ReadyCheck            string // "tcp", "none" or "http:/path"
	ConnectionIdleTimeout Span
	ProxyProtocol         string         // "no", "v1" or "v2"
	ClientAddress         string         // "client" or "proxy"
	MaxConnections        int64          // 0 is no limit
	AllowFrom             []netip.Prefix // none is everybody

	search quadlet.Search
}

// Socket is how the public unix sockets are made, as systemd.socket(5) has it.
type Socket struct {
	Mode, DirectoryMode uint32
	User, Group         string // "" is the manager's own
}

// Published is a PublishPort= value that stays Podman's, and where the file
// says so.
type Published struct {
	Value string
	Pos   quadlet.Pos
}

// Listener is a public side and where the file says so.
type Listener struct {
	Publish
	Pos quadlet.Pos
	// HostFile and ContainerFile are the paths as [quadlet.Search.Expand] has them.
	HostFile, ContainerFile string
}

// Dependency reports whether the section has no port: the container runs while a
// unit that needs it does, and nothing else wakes it.
func (s *Spec) Dependency() bool { return len(s.Listen) == 0 }

// Inside reports whether the app is reached in a network namespace of its own.
func (s *Spec) Inside() bool { return s.Network == Namespace && s.DialsPorts() }

// DialsPorts reports whether the app has to be reached through the network.
func (s *Spec) DialsPorts() bool {
	return !s.Native && slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.ContainerPath == "" })
}

// Read reads the section and what of the rest of the file bears on it. The
// Spec is good for planning only where the diagnostics have no error.
func Read(f *quadlet.File, search quadlet.Search) (*Spec, quadlet.Diagnostics) {
	s := &Spec{File: f, Unit: f.Unit(), search: search}
	var ds quadlet.Diagnostics
	s.readSection(&ds)
	s.readPorts(&ds)
	s.readNetwork(search.Manager, &ds)
	s.checkCgroup(&ds)
	s.checkPorts(&ds)
	s.checkSockets(&ds)
	s.checkLocal(&ds)
	s.checkKeys(&ds)
	s.checkKind(&ds)
	return s, ds
}

func (s *Spec) readSection(ds *quadlet.Diagnostics) {
	for _, k := range keys {
		if err := k.parse(s, k.Default); err != nil {
			panic(fmt.Sprintf("default of %s=: %v", k.Name, err)) // a mistake in the table, not in a file
		}
	}
	for _, e := range s.File.Entries {
		if !IsSection(e.Section) {
			continue
		}
		k, known := FindKey(e.Key)
		if !known {
			ds.Errorf(e.Pos, didYouMean(e.Key), "unknown key %s= in [%s]", e.Key, e.Section)
			continue
		}
		listeners := len(s.Listen)
		if err := k.parse(s, cmp.Or(e.Value, k.Default)); err != nil {
			ds.Value(e, err)
		}
		for j := listeners; j < len(s.Listen); j++ {
			s.Listen[j].Pos = e.Pos
		}
	}
}

// listen adds one Listen= line; an empty one forgets those before it.
func (s *Spec) listen(value string) error {
	if value == "" {
		s.Listen = nil
		return nil
	}
	ports, err := ParseListen(value)
	if err != nil {
		return err
	}
	for _, p := range ports {
		for _, one := range p.Each() {
			s.Listen = append(s.Listen, Listener{
				Publish:  one,
				HostFile: s.search.Expand(one.HostPath), ContainerFile: s.search.Expand(one.ContainerPath),
			})
		}
	}
	return nil
}

// allow adds the addresses of one AllowFrom= line; an empty one forgets those
// before it.
func (s *Spec) allow(value string) error {
	if value == "" {
		s.AllowFrom = nil
		return nil
	}
	for word := range strings.FieldsSeq(value) {
		p, err := parsePrefix(word)
		if err != nil {
			return err
		}
		s.AllowFrom = append(s.AllowFrom, p)
	}
	return nil
}

// readPorts settles which ports are scaled and which stay published by Podman.
// With Listen= only what it names is scaled.
func (s *Spec) readPorts(ds *quadlet.Diagnostics) {
	named := len(s.Listen) > 0
	for _, e := range s.File.All("Container", "PublishPort") {
		ports, err := ParsePublish(e.Value)
		switch {
		case named && err != nil:
			s.readUnknown(e, ds)
		case named:
			for _, value := range s.unscaled(e.Value, ports) {
				s.Published = append(s.Published, Published{value, e.Pos})
			}
		case err != nil:
			ds.Value(e, err)
		default:
			s.scale(e, ports)
		}
	}
}

// SectionPos is where the section begins.
func (s *Spec) SectionPos() quadlet.Pos {
	return s.File.Sections[slices.IndexFunc(s.File.Sections, func(x quadlet.Section) bool { return IsSection(x.Name) })].Pos
}

func (s *Spec) scale(e quadlet.Entry, ports []Publish) {
	for _, p := range ports {
		for _, one := range p.Each() {
			s.Listen = append(s.Listen, Listener{Publish: one, Pos: e.Pos})
		}
	}
}

// unscaled is what of one PublishPort= value Listen= does not name.
func (s *Spec) unscaled(value string, ports []Publish) []string {
	var kept []string
	whole := true
	for _, p := range ports {
		for _, one := range p.Each() {
			if s.listensFor(one.ContainerPort, one.Protocol) {
				whole = false
				continue
			}
			kept = append(kept, one.published())
		}
	}
	if whole {
		return []string{value}
	}
	return kept
}

// readUnknown settles what becomes of a port of which nobody knows beforehand
// where it is published: the host's side has a variable, or no port. So it is
// with sctp, which is nothing to us. What else may be wrong is Podman's to judge.
func (s *Spec) readUnknown(e quadlet.Entry, ds *quadlet.Diagnostics) {
	host, ports, err := parseContainerSide(e.Value)
	if err != nil && strings.ContainsAny(e.Value[len(host):], "$%") {
		ds.Value(e, err)
		return
	}
	keep := func(value string) { s.Published = append(s.Published, Published{value, e.Pos}) }
	if s.named(ports) == 0 {
		keep(e.Value)
		return
	}
	for _, p := range ports {
		switch s.named([]Publish{p}) {
		case 0:
			port, _, _ := strings.Cut(e.Value[len(host):], "/")
			keep(host + port + "/" + p.Protocol)
		case p.Count:
		default:
			ds.Errorf(e.Pos, "write one line for each port",
				"Listen= names ports of this range, and nobody knows beforehand where Podman publishes the others")
			return
		}
	}
}

// named counts the ports that Listen= names.
func (s *Spec) named(ports []Publish) int {
	n := 0
	for _, p := range ports {
		for _, one := range p.Each() {
			if s.listensFor(one.ContainerPort, one.Protocol) {
				n++
			}
		}
	}
	return n
}

func (s *Spec) listensFor(port uint16, protocol string) bool {
	return slices.ContainsFunc(s.Listen, func(l Listener) bool {
		return l.ContainerPort == port && l.Protocol == protocol
	})
}

// published spells one port as PublishPort= takes it.
func (p Publish) published() string {
	text := fmt.Sprintf("%d:%d/%s", p.HostPort, p.ContainerPort, p.Protocol)
	switch {
	case p.Host.Is6():
		return fmt.Sprintf("[%s]:%s", p.Host, text)
	case p.Host.IsValid():
		return fmt.Sprintf("%s:%s", p.Host, text)
	}
	return text
}

const ownNetwork = "give it a network of its own: containers on one Network=NAME.network reach each other by name"

// readNetwork refuses the networks in which the proxy cannot reach the app. A
// dependency has no proxy.
func (s *Spec) readNetwork(m quadlet.Manager, ds *quadlet.Diagnostics) {
	if e, ok := s.File.Last("Container", "Pod"); ok && e.Value != "" {
		ds.Errorf(e.Pos, ownNetwork, "a container in a pod cannot be scaled by itself")
	}
	if s.Dependency() {
		return
	}
	for _, e := range s.File.All("Container", "PodmanArgs") {
		for _, arg := range e.Arguments() {
			switch option, _, _ := strings.Cut(arg, "="); option {
			case "--network", "--net", "--pod":
				ds.Errorf(e.Pos, "write Network= in [Container]", "%s in PodmanArgs= hides from zerolet how the container is reached", option)
			}
		}
	}
	for _, e := range s.File.All("Container", "Network") {
		mode, _, _ := strings.Cut(e.Value, ":")
		switch {
		case mode == "host":
			s.Network = Host
		case mode == "container" || mode == "ns" || strings.HasSuffix(mode, ".container"):
			ds.Errorf(e.Pos, ownNetwork, "a container in the network of another one cannot be scaled")
		case m == quadlet.System && (mode == "pasta" || mode == "slirp4netns"):
			ds.Errorf(e.Pos, "use a bridge network (Podman's default), or run the container in a user manager", "Network=%s is for rootless containers", mode)
		}
	}
}

// Setting is the assignment of a key of the section that is in effect. It is
// false if there is none, or it restores the default.
func (s *Spec) Setting(key string) (quadlet.Entry, bool) {
	for _, e := range slices.Backward(s.File.Entries) {
		if IsSection(e.Section) && e.Key == key {
			return e, e.Value != ""
		}
	}
	return quadlet.Entry{}, false
}

// checkSockets tells what cannot be done to a public socket.
func (s *Spec) checkSockets(ds *quadlet.Diagnostics) {
	for _, l := range s.Listen {
		if s.search.Manager == quadlet.System && strings.HasPrefix(l.ContainerFile, "/root/") {
			ds.Errorf(l.Pos, "let the app make it below /run or /srv", "nobody but root reaches a socket below /root")
		}
		if l.HostFile != "" && l.HostFile == l.ContainerFile {
			ds.Errorf(l.Pos, "give one of the two another path", "clients and the app would share the socket %s", l.HostFile)
		}
	}
}

// onUnix reports whether clients connect to a unix socket.
func (s *Spec) onUnix() bool {
	return slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.HostPath != "" })
}

func (s *Spec) checkSocketUser(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if s.search.Manager == quadlet.User {
		ds.Errorf(e.Pos, "let others in with SocketGroup=, a group that you are in, and SocketMode=0660",
			"a user's manager cannot give a socket to another user")
	}
}

// checkAllowed tells where AllowFrom= does nothing.
func (s *Spec) checkAllowed(e quadlet.Entry, ds *quadlet.Diagnostics) {
	for _, l := range s.Listen {
		if l.HostPath != "" {
			ds.Warnf(e.Pos, "say who may connect to it with SocketMode= and SocketGroup=", "AllowFrom= does not apply to the unix socket %s", l.HostPath)
		}
	}
}

// datagrams reports whether a listener is none of connections.
func (l Listener) datagrams() bool { return l.Protocol == "udp" }

// checkReadyCheck tells what cannot be asked in datagrams.
func (s *Spec) checkReadyCheck(e quadlet.Entry, ds *quadlet.Diagnostics) {
	asked := slices.ContainsFunc(s.Listen, func(l Listener) bool { return !l.datagrams() })
	if strings.HasPrefix(s.ReadyCheck, "http:") && !asked {
		ds.Errorf(e.Pos, "write tcp, or add the port that answers HTTP", "ReadyCheck=http: needs a port that is not udp")
	}
}

// checkProxyProtocol tells what cannot be told in datagrams.
func (s *Spec) checkProxyProtocol(e quadlet.Entry, ds *quadlet.Diagnostics) {
	if s.ProxyProtocol != "no" && slices.ContainsFunc(s.Listen, Listener.datagrams) {
		ds.Errorf(e.Pos, "name the tcp ports alone with Listen=", "ProxyProtocol= is not for udp: neither HAProxy nor nginx reads it there")
	}
}

// checkKind refuses files that are not one long-running service.
func (s *Spec) checkKind(ds *quadlet.Diagnostics) {
	whole := s.File.UnitPos()
	if base, instance, ok := strings.Cut(s.Unit, "@"); ok {
		// Its sockets would be instances too, and two instances of one file
		// cannot listen on one port.
		ds.Errorf(whole, fmt.Sprintf("write a file for each instance, such as %s-%s.container, with a port of its own", base, cmp.Or(instance, "1")),
			"a template or an instance of one cannot be scaled")
	}
	if e, ok := s.File.Last("Service", "Type"); ok && e.Value == "oneshot" {
		ds.Errorf(e.Pos, "leave the [ScaleToZero] section out: a job runs when it is started, and uses nothing afterwards",
			"a service that ends by itself cannot be scaled")
	}
	s.checkAliases(ds)
	if !ValidUnit(s.Unit) {
		ds.Errorf(whole, "use letters, digits and :-_. only", "%q is not the name of a systemd unit", s.Unit)
		s.Unit = ""
	}
}

// checkAliases tells of names that lead nowhere: stock Quadlet makes each a
// link to the service, whose type it must have.
func (s *Spec) checkAliases(ds *quadlet.Diagnostics) {
	for _, e := range s.File.All("Install", "Alias") {
		for _, alias := range e.Words() {
			if filepath.Ext(alias) != ".service" {
				ds.Warnf(e.Pos, "Alias= names the service: write "+strings.TrimSuffix(alias, filepath.Ext(alias))+".service, or leave it out",
					"alias %s is not used: it does not end in .service", alias)
			}
		}
	}
}

// ValidUnit follows systemd.unit(5): letters, digits, ":-_.\@" and, with what
// we make of it, at most 255 bytes, which is also the limit of a file's name.
func ValidUnit(name string) bool {
	const longest = "50-zerolet-.conf"
	if name == "" || len(name)+len(longest) > 255 {
		return false
	}
	const valid = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\@`
	return !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(valid, r) })
}
