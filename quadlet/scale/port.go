package scale

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zerolet/zerolet/quadlet"
)

// Publish is one line of PublishPort= or Listen=: where clients connect to and
// which port of the container that is.
type Publish struct {
	// Host is the address clients connect to. The zero Addr is every
	// address, IPv4 and IPv6. IPv4-mapped IPv6 is unmapped, as by Podman.
	Host     netip.Addr
	HostPort uint16 // the first one; 0 if HostPath is set
	HostPath string // a unix socket; specifiers are not expanded
	// HostNetwork is the network on which a stand-in listens in place of the
	// container: NAME.network, or what Podman calls it. Host is zero then.
	HostNetwork string

	ContainerPort uint16 // the first one; 0 if ContainerPath is set
	ContainerPath string // a unix socket; specifiers are not expanded

	Count    int    // of consecutive ports on both sides, at least 1
	Protocol string // "tcp" or "udp"; "tcp" for unix sockets, which are streams too
	Text     string // as it was written
}

// Unix reports whether either side is a unix socket.
func (p Publish) Unix() bool { return p.HostPath != "" || p.ContainerPath != "" }

// Each is every port of a range by itself.
func (p Publish) Each() []Publish {
	out := make([]Publish, p.Count)
	for i := range out {
		out[i] = p
		out[i].HostPort += uint16(i)
		out[i].ContainerPort += uint16(i)
		out[i].Count = 1
	}
	return out
}

// ParsePublish reads a value of PublishPort=,
// [[IP:][HOSTPORT]:]PORT[/PROTOCOL], as Podman 6.0.0 does (CreatePortBindings
// in pkg/specgenutil/util.go), but insists on a host port: nothing could be
// told to a client otherwise. One Publish comes out for each protocol. An
// error is a [*quadlet.ValueError].
func ParsePublish(text string) ([]Publish, error) {
	p := publishParser{text: text}
	return p.result(p.parse())
}

// ParseListen reads a value of Listen=. That is a value of PublishPort=, but
// either side may also be the path of a unix socket, and in place of an address
// the name of a network may stand, as in NETWORK.network:PORT[:CONTAINERPORT]. An
// error is a [*quadlet.ValueError].
func ParseListen(text string) ([]Publish, error) {
	p := publishParser{text: text, unix: true}
	return p.result(p.parse())
}

// parseContainerSide reads what a value of PublishPort= says of the container
// where the host's side cannot be read: it has a variable, or no port. That
// side comes out as it was written, with its colon.
func parseContainerSide(text string) (host string, ports []Publish, err error) {
	p := publishParser{text: text, sctp: true}
	_, container, bad := p.sides(part{text, 0})
	if bad != nil {
		return "", nil, bad
	}
	host = text[:container.off]
	if i := strings.IndexAny(container.s, "$%"); i >= 0 {
		return host, nil, part{container.s[i:], container.off + i}.errorf("write the number of the container's port",
			"nobody knows beforehand whether Listen= names this port")
	}
	p.protocols = []string{"tcp"}
	if container, bad = p.protocol(container); bad == nil {
		bad = p.containerSide(container)
	}
	ports, err = p.result(bad)
	return host, ports, err
}

const publishHint = `write it like "8080:80" or "127.0.0.1:8080:80/tcp"`

// publishParser reads one value. Its methods give a *ValueError or nil.
type publishParser struct {
	text      string
	unix      bool // paths are allowed
	sctp      bool // and this protocol
	out       Publish
	protocols []string // that are named, or tcp
}

// part is a piece of the text with its place.
type part struct {
	s   string
	off int
}

// cut splits at a byte, like strings.Cut.
func (a part) cut(sep byte) (before, after part, found bool) {
	i := strings.IndexByte(a.s, sep)
	if i < 0 {
		return a, part{"", a.off + len(a.s)}, false
	}
	return part{a.s[:i], a.off}, part{a.s[i+1:], a.off + i + 1}, true
}

func (a part) errorf(hint, format string, args ...any) *quadlet.ValueError {
	return &quadlet.ValueError{Offset: a.off, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// abstract refuses a name that is not in the file system. It would have no
// mode and no owner, and whoever is first has it (unix(7)).
func (a part) abstract() *quadlet.ValueError {
	if !strings.HasPrefix(a.s, "@") {
		return nil
	}
	return a.errorf("name a path, such as %t/web.sock", "an abstract socket has no permissions: everybody on the machine could connect, or take its place")
}

// isPath reports whether a side is a unix socket: "/run/web.sock", "%t/web.sock".
func (a part) isPath() bool {
	return strings.HasPrefix(a.s, "/") || len(a.s) > 2 && a.s[0] == '%' && a.s[2] == '/'
}

func (p *publishParser) result(err *quadlet.ValueError) ([]Publish, error) {
	if err != nil {
		return nil, err
	}
	out := make([]Publish, len(p.protocols))
	for i, protocol := range p.protocols {
		out[i] = p.out
		out[i].Protocol, out[i].Text = protocol, p.text
	}
	return out, nil
}

func (p *publishParser) parse() *quadlet.ValueError {
	if err := p.characters(); err != nil {
		return err
	}
	if network, ports, found := p.network(); found {
		return p.onNetwork(network, ports)
	}
	host, container, err := p.sides(part{p.text, 0})
	if err != nil {
		return err
	}
	for _, side := range []part{host, container} {
		if err := side.abstract(); p.unix && err != nil {
			return err
		}
	}
	p.protocols = []string{"tcp"}
	if !container.isPath() {
		if container, err = p.protocol(container); err != nil {
			return err
		}
	}
	if err := p.containerSide(container); err != nil {
		return err
	}
	return p.hostSide(host, container)
}

// characters refuses what can be nothing but a mistake, where it stands.
func (p *publishParser) characters() *quadlet.ValueError {
	for i, r := range p.text {
		at := part{p.text[i:], i}
		switch {
		case r == '"' || r == '\'':
			return at.errorf("remove the quotes", "unexpected quote")
		case r == '#' || r == ';':
			return at.errorf("a comment needs a line of its own", "unexpected %q", r)
		case r == '$':
			return at.errorf(p.instead(i), "a variable cannot be used here")
		case r == '%' && !p.unix && !inBrackets(p.text, i):
			return at.errorf(p.instead(i), "a specifier cannot be used here")
		case unicode.IsSpace(r):
			return at.errorf("write one line for each port", "unexpected space")
		case unicode.IsControl(r), r == utf8.RuneError:
			return at.errorf("remove it", "unexpected character %q", r)
		}
	}
	return nil
}

// instead is what to write for a variable. Two colons follow an address.
func (p *publishParser) instead(i int) string {
	switch {
	case !strings.Contains(p.text, ":"):
		return publishHint
	case inBrackets(p.text, i) || strings.Count(p.text[i:], ":") > 1:
		return "write the address, or leave it out to listen on all"
	}
	return "write the number"
}

// inBrackets reports whether a byte belongs to an address.
func inBrackets(text string, i int) bool {
	return strings.HasPrefix(text, "[") && i < strings.IndexByte(text, ']')
}

// sides splits at the colon between both sides: the first one after a path,
// else the last one before a path or a protocol.
func (p *publishParser) sides(all part) (host, container part, err *quadlet.ValueError) {
	if all.isPath() {
		host, container, found := all.cut(':')
		if !found && p.unix {
			return host, container, all.errorf(`write it like "%t/web.sock:80"`, "no container port")
		}
		return host, container, nil
	}
	head := all.s
	if i := strings.IndexByte(head, '/'); i >= 0 {
		head = head[:i]
	}
	if i := strings.Index(head, ":%"); i >= 0 {
		head = head[:i+1]
	}
	colon := strings.LastIndexByte(head, ':')
	if colon < 0 || strings.Contains(head[colon:], "]") {
		return part{}, all, nil
	}
	return part{all.s[:colon], 0}, part{all.s[colon+1:], colon + 1}, nil
}

// protocol takes "/tcp" off the container side. Podman also takes a list.
func (p *publishParser) protocol(side part) (part, *quadlet.ValueError) {
	ports, names, found := side.cut('/')
	if !found {
		return ports, nil
	}
	p.protocols = nil
	if names.s == "" {
		return ports, names.errorf("write tcp or udp, or remove the /", "no protocol after the /")
	}
	for more := true; more; {
		var name part
		name, names, more = names.cut(',')
		protocol := strings.ToLower(name.s)
		switch {
		case protocol == "":
			protocol = "tcp"
		case protocol == "tcp", protocol == "udp", protocol == "sctp" && p.sctp:
		case protocol == "sctp":
			return ports, name.errorf(p.sctpHint(), "sctp cannot be scaled")
		default:
			return ports, name.errorf("write tcp or udp", "unknown protocol %q", name.s)
		}
		if !slices.Contains(p.protocols, protocol) {
			p.protocols = append(p.protocols, protocol)
		}
	}
	return ports, nil
}

func (p *publishParser) sctpHint() string {
	if p.unix {
		return "write tcp, or leave this line to PublishPort="
	}
	return "name the ports to scale with Listen= in [ScaleToZero]; podman goes on publishing the others"
}

// containerSide reads [FIRST-]LAST or a path.
func (p *publishParser) containerSide(side part) (err *quadlet.ValueError) {
	switch {
	case side.isPath():
		p.out.ContainerPath, p.out.Count = side.s, 1
		return p.checkPath(side)
	case side.s == "":
		return side.errorf(publishHint, "no container port")
	}
	p.out.ContainerPort, p.out.Count, err = side.ports("container port")
	return err
}

// hostSide reads [IP:][FIRST-]LAST or a path. The container side was read.
func (p *publishParser) hostSide(side, container part) *quadlet.ValueError {
	if side.isPath() {
		p.out.HostPath = side.s
		switch err := p.checkPath(side); {
		case err != nil:
			return err
		case p.out.Count > 1:
			return container.errorf("write one line for each port", "a range of ports on one unix socket")
		case !slices.Equal(p.protocols, []string{"tcp"}):
			return container.errorf("remove the protocol", "a unix socket is a stream, not udp")
		}
		return nil
	}
	port, err := p.host(side)
	if err != nil {
		return err
	}
	if port.s == "" {
		return port.errorf(p.suggest(side, container), "no host port, Podman would take any that is free")
	}
	first, n, err := port.ports("host port")
	if err != nil {
		return err
	}
	if n != p.out.Count {
		return port.errorf("both ranges must have the same length",
			"%s for %s", plural(n, "host port"), plural(p.out.Count, "container port"))
	}
	p.out.HostPort = first
	return nil
}

// host reads the address, if there is one, and gives the rest.
func (p *publishParser) host(side part) (port part, err *quadlet.ValueError) {
	var addr part
	if strings.HasPrefix(side.s, "[") {
		var closed bool
		addr, port, closed = part{side.s[1:], side.off + 1}.cut(']')
		switch {
		case !closed:
			return port, side.errorf(`write it like "[::1]:8080:80"`, "missing ] after the address")
		case port.s != "" && port.s[0] != ':':
			return port, port.errorf(publishHint, "expected : after the address")
		}
		_, port, _ = port.cut(':')
	} else {
		colon := strings.LastIndexByte(side.s, ':')
		if colon < 0 {
			return side, nil
		}
		addr, port = part{side.s[:colon], side.off}, part{side.s[colon+1:], side.off + colon + 1}
		if strings.Contains(addr.s, ":") {
			return port, addr.errorf(`write it like "[::1]:8080:80"`, "an IPv6 address needs brackets")
		}
	}
	if p.out.Host, err = addr.addr(); err == nil {
		err = p.bindable(addr)
	}
	return port, err
}

// bindable refuses what no socket can be bound to: inet6_bind() in the kernel's
// net/ipv6/af_inet6.c wants an interface for an address of a link, and no TCP
// on one of a group. The protocols were read.
func (p *publishParser) bindable(addr part) *quadlet.ValueError {
	switch host := p.out.Host; {
	case !host.Is6():
	case host.IsLinkLocalUnicast() || host.IsLinkLocalMulticast() || host.IsInterfaceLocalMulticast():
		return addr.errorf("listen on [::], or on another address of the machine", "address %s is link-local, and its interface cannot be named here", host)
	case host.IsMulticast() && slices.Contains(p.protocols, "tcp"):
		return addr.errorf("listen on [::], or on an address of the machine", "address %s is for multicast: nobody can listen there with TCP", host)
	}
	return nil
}

// addr reads an IP address. Podman takes neither names nor zones
// (net.ParseIP), and unmaps IPv4-mapped IPv6 (net.IP.String).
func (a part) addr() (netip.Addr, *quadlet.ValueError) {
	if a.s == "" {
		return netip.Addr{}, a.errorf("leave out the colon to listen on all addresses", "no address before the colon")
	}
	addr, err := netip.ParseAddr(a.s)
	switch {
	case err != nil:
		return addr, a.errorf("write an IP address: names are not accepted", "%q is not an IP address", a.s)
	case addr.Zone() != "":
		// systemd would, but looks the interface up when it reads the unit, and
		// drops the line where it is not up yet (tried on 252).
		return addr, a.errorf("Podman accepts none, and systemd forgets the address if the interface is not up yet: leave the zone out, or listen on [::]",
			"address %q has a zone", a.s)
	}
	return addr.Unmap(), nil
}

// ports reads PORT or FIRST-LAST.
func (a part) ports(what string) (first uint16, count int, err *quadlet.ValueError) {
	from, to, isRange := a.cut('-')
	if first, err = from.port(what); err != nil || !isRange {
		return first, 1, err
	}
	last, err := to.port(what)
	if err != nil {
		return 0, 0, err
	}
	if last <= first {
		return 0, 0, to.errorf("write the lower one first, or one port alone", "range of %ss ends at %d, before it begins", what, last)
	}
	return first, int(last-first) + 1, nil
}

func (a part) port(what string) (uint16, *quadlet.ValueError) {
	n, err := strconv.Atoi(a.s) // as Podman: "+80" and "080" are 80
	switch {
	case a.s == "":
		return 0, a.errorf("ports are from 1 to 65535", "missing number of a %s", what)
	case err != nil && strings.Trim(a.s, "0123456789") != "":
		return 0, a.errorf(publishHint, "%s %q is not a number", what, a.s)
	case err != nil || n < 1 || n > 65535:
		return 0, a.errorf("ports are from 1 to 65535", "%s %s is out of range", what, a.s)
	}
	return uint16(n), nil
}

// checkPath refuses what cannot be a unix socket in a unit file. The length is
// that of sun_path less its NUL (unix(7)); a specifier can make it longer.
func (p *publishParser) checkPath(a part) *quadlet.ValueError {
	switch i := strings.IndexAny(a.s, ":="); {
	case !p.unix:
		return a.errorf("name it in Listen= of [ScaleToZero]", "a unix socket cannot be used here")
	case i >= 0:
		return part{a.s, a.off + i}.errorf("rename the socket", "a path with %q cannot be used here", a.s[i])
	case a.checkSpecifiers() != nil:
		return a.checkSpecifiers()
	case len(a.s) > 107:
		return a.errorf("a unix socket has at most 107 bytes", "path is too long")
	case strings.HasSuffix(a.s, "/"):
		return a.errorf("name a socket in it", "path %q is a directory", a.s)
	}
	return nil
}

// sharedSpecifiers mean the same in every unit of a manager
// (systemd.unit(5), "Specifiers"). The others tell of the unit or of its file:
// a path with them would be one thing to the socket and another to the proxy.
const sharedSpecifiers = "CEGHLSTUVbghlmtuv%"

// checkSpecifiers refuses those that are not shared.
func (a part) checkSpecifiers() *quadlet.ValueError {
	for i := 0; i < len(a.s); i++ {
		if a.s[i] != '%' {
			continue
		}
		name := a.s[i:min(i+2, len(a.s))]
		if len(name) < 2 || !strings.Contains(sharedSpecifiers, name[1:]) {
			return part{a.s[i:], a.off + i}.errorf("use %t, %h, %S or another that stands for a directory, and %% for a percent sign",
				"specifier %q cannot be used in a socket's path", name)
		}
		i++
	}
	return nil
}

// suggest is a hint that repeats the container port on the host side.
func (p *publishParser) suggest(host, container part) string {
	if container.isPath() {
		return publishHint
	}
	if host.s != "" && !strings.HasSuffix(host.s, ":") {
		host.s += ":"
	}
	return fmt.Sprintf("write %q to listen on the same port", host.s+container.s+":"+p.text[container.off:])
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
