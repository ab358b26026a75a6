package quadlet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Key describes one key of the [ScaleToZero] section. The parser, the hints
// and the manual are made from this table.
type Key struct {
	Name    string
	Type    string // what the value is, in words
	Default string // an assignment of this value changes nothing
	Doc     string // one sentence
	// Dependency tells that it has a meaning in a section without ports, too.
	Dependency bool

	set func(*Spec, string) error // an empty value has been replaced by Default
}

// Keys are the keys of [ScaleToZero] in the order of the manual.
func Keys() []Key {
	return []Key{
		{
			Name: "IdleTimeout", Type: "time span", Default: "2min",
			Doc: "how long after the last connection, or the last datagram, the container stops; infinity never stops it",
			set: func(s *Spec, v string) (err error) {
				s.IdleTimeout, err = parsePositive(v, "write 1s to stop it with its last connection, infinity to never stop it")
				return err
			},
		},
		{
			Name: "StartTimeout", Type: "time span", Default: "5min", Dependency: true,
			Doc: "how long a client is held while the container starts; also TimeoutStartSec= of the container unless the file sets one",
			set: func(s *Spec, v string) (err error) {
				s.StartTimeout, err = parsePositive(v, "write infinity to hold clients for as long as they wait")
				return err
			},
		},
		{
			Name: "Listen", Type: "PublishPort= syntax, repeatable", Default: "",
			Doc: "what to listen on and which container port it leads to; without it every PublishPort= of the file",
			set: (*Spec).listen,
		},
		{
			Name: "Mode", Type: "proxy or native", Default: "proxy",
			Doc: "who accepts the connections: the proxy, or the app itself, from sockets that it takes from systemd (LISTEN_FDS)",
			set: (*Spec).mode,
		},
		{
			Name: "ReadyCheck", Type: "tcp, http:/path or none", Default: "tcp",
			Doc: "when clients are let through: once the app accepts and does not reset at once, once it answers a GET of the path on the first port with 2xx or 3xx, or once it accepts",
			set: func(s *Spec, v string) (err error) { s.ReadyCheck, err = parseReadyCheck(v); return err },
		},
		{
			Name: "ConnectionIdleTimeout", Type: "time span", Default: "infinity",
			Doc: "a connection without a byte for this long no longer keeps the container up; it is closed when the container stops",
			set: func(s *Spec, v string) (err error) {
				s.ConnectionIdleTimeout, err = parsePositive(v, "write infinity to switch it off")
				return err
			},
		},
		{
			Name: "ProxyProtocol", Type: "no, v1 or v2", Default: "no",
			Doc: "tell the app each client's address, by HAProxy's PROXY protocol at the head of each connection",
			set: func(s *Spec, v string) (err error) { s.ProxyProtocol, err = oneOf(v, "no", "v1", "v2"); return err },
		},
		{
			Name: "ClientAddress", Type: "client or proxy", Default: "client",
			Doc: "whose address the app sees on a port in the container's own network: each client's, though all of them come in at loopback, or the container's, as with ProxyProtocol=; never 127.0.0.1",
			set: func(s *Spec, v string) (err error) { s.ClientAddress, err = oneOf(v, "client", "proxy"); return err },
		},
		{
			Name: "MaxConnections", Type: "number", Default: "0",
			Doc: "how many connections are served at a time, the others wait; 0 is no limit",
			set: func(s *Spec, v string) (err error) { s.MaxConnections, err = parseCount(v); return err },
		},
		{
			Name: "AllowFrom", Type: "addresses and prefixes, repeatable", Default: "",
			Doc: "who may connect, such as 192.0.2.0/24 ::1; others wake nothing; without it everybody",
			set: (*Spec).allow,
		},
		{
			Name: "SocketMode", Type: "octal mode", Default: "0666",
			Doc: "who may connect to the unix sockets that Listen= makes, as in systemd.socket(5)",
			set: func(s *Spec, v string) (err error) { s.Socket.Mode, err = parseMode(v); return err },
		},
		{
			Name: "SocketUser", Type: "user", Default: "",
			Doc: "owner of these sockets; of the system's only",
			set: func(s *Spec, v string) (err error) { s.Socket.User, err = parseName(v); return err },
		},
		{
			Name: "SocketGroup", Type: "group", Default: "",
			Doc: "group of these sockets",
			set: func(s *Spec, v string) (err error) { s.Socket.Group, err = parseName(v); return err },
		},
		{
			Name: "DirectoryMode", Type: "octal mode", Default: "0755",
			Doc: "mode of the directories that have to be made for these sockets",
			set: func(s *Spec, v string) (err error) { s.Socket.DirectoryMode, err = parseMode(v); return err },
		},
		{
			Name: "AutoStart", Type: "boolean", Default: "yes",
			Doc: "whether daemon-reload and boot bring the socket up; with no it is left to [Install]",
			set: func(s *Spec, v string) (err error) { s.AutoStart, err = ParseBool(v); return err },
		},
	}
}

// scaleSection tells whether a section is ours. [X-ScaleToZero] keeps systemd
// from warning where stock Quadlet copies the section into its unit
// (systemd.unit(5): sections that begin with "X-" are ignored).
func scaleSection(name string) bool { return name == "ScaleToZero" || name == "X-ScaleToZero" }

// ParseBool takes what systemd takes for a boolean (systemd.syntax(7)).
func ParseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, &ValueError{Message: fmt.Sprintf("%q is neither yes nor no", v), Hint: "write yes or no"}
}

// parsePositive is a time span of more than nothing.
func parsePositive(v, hint string) (Span, error) {
	span, err := ParseSpan(v)
	if err == nil && span == 0 {
		err = &ValueError{Message: "a time of nothing", Hint: hint}
	}
	return span, err
}

// oneOf takes one of some words.
func oneOf(v string, words ...string) (string, error) {
	if !slices.Contains(words, v) {
		last := len(words) - 1
		return "", &ValueError{Message: fmt.Sprintf("unknown value %q", v), Hint: "write " + strings.Join(words[:last], ", ") + " or " + words[last]}
	}
	return v, nil
}

// parseReadyCheck takes a path as it can stand in a request (RFC 9112, 3.2.1).
func parseReadyCheck(v string) (string, error) {
	path, http := strings.CutPrefix(v, "http:")
	if !http {
		if _, err := oneOf(v, "tcp", "none"); err != nil {
			return "", &ValueError{Message: fmt.Sprintf("unknown check %q", v), Hint: "write tcp, none or a path such as http:/healthz"}
		}
		return v, nil
	}
	if !strings.HasPrefix(path, "/") {
		return "", &ValueError{Offset: len("http:"), Message: "no path", Hint: "write a path on the app's own port, such as http:/healthz"}
	}
	if i := strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return "", &ValueError{Offset: len("http:") + i, Message: "unexpected character in the path", Hint: "write it as %20 and the like"}
	}
	return v, nil
}

func parseCount(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, &ValueError{Message: fmt.Sprintf("%q is not a number from 0", v), Hint: "write such as 100, or 0 for no limit"}
	}
	return n, nil
}

// parsePrefix takes an address or a prefix, IPv4-mapped as IPv4.
func parsePrefix(v string) (netip.Prefix, error) {
	bad := func(message, hint string) (netip.Prefix, error) {
		return netip.Prefix{}, &ValueError{Message: message, Hint: hint}
	}
	p, err := netip.ParsePrefix(v)
	if addr, e := netip.ParseAddr(v); e == nil {
		p, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		if addr.Zone() != "" {
			return bad(fmt.Sprintf("address %q has a zone", v), "leave the zone out")
		}
	}
	if err != nil {
		return bad(fmt.Sprintf("%q is neither an address nor a prefix", v), "write such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return bad(fmt.Sprintf("prefix %s has more than IPv4-mapped addresses in it", v), "write the IPv4 prefix")
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return bad(fmt.Sprintf("address %s has bits beyond the prefix of %d", p.Addr(), p.Bits()),
			fmt.Sprintf("write %s, or the address alone", p.Masked()))
	}
	return p, nil
}

// parseMode takes what systemd takes (parse_mode in src/basic/parse-util.c).
func parseMode(v string) (uint32, error) {
	mode, err := strconv.ParseUint(v, 8, 32)
	if err != nil || mode > 0o7777 {
		return 0, &ValueError{Message: fmt.Sprintf("%q is not a mode", v), Hint: "write it in octal, such as 0660"}
	}
	return uint32(mode), nil
}

// parseName takes the name or number of a user or group, as systemd does but
// without specifiers (systemd.syntax(7), "User/Group Name Syntax").
func parseName(v string) (string, error) {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	number := strings.Trim(v, "0123456789") == ""
	if !number && (!strings.Contains(first, v[:1]) || strings.Trim(v, first+"0123456789.-") != "") || len(v) > 31 {
		return "", &ValueError{Message: fmt.Sprintf("%q is not the name of a user or group", v), Hint: "write a name or a number"}
	}
	return v, nil
}

// nearest is the key a mistyped name may have meant, or "".
func nearest(name string, keys []Key) string {
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
