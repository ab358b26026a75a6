package scale

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// ParseBool takes what systemd takes for a boolean (systemd.syntax(7)).
func ParseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, &quadlet.ValueError{Message: fmt.Sprintf("%q is neither yes nor no", v), Hint: "write yes or no"}
}

// parsePositive is a time span of more than nothing.
func parsePositive(v, hint string) (Span, error) {
	span, err := ParseSpan(v)
	if err == nil && span == 0 {
		err = &quadlet.ValueError{Message: "a time span of 0", Hint: hint}
	}
	return span, err
}

// parseFinite is a time span that ends.
func parseFinite(v, hint string) (Span, error) {
	span, err := ParseSpan(v)
	if err == nil && span == Infinity {
		err = &quadlet.ValueError{Message: "a time span without an end", Hint: hint}
	}
	return span, err
}

// oneOf takes one of some words.
func oneOf(v string, words ...string) (string, error) {
	if !slices.Contains(words, v) {
		last := len(words) - 1
		return "", &quadlet.ValueError{Message: fmt.Sprintf("unknown value %q", v), Hint: "write " + strings.Join(words[:last], ", ") + " or " + words[last]}
	}
	return v, nil
}

// parseReadyCheck takes a path as it can stand in a request (RFC 9112, 3.2.1).
func parseReadyCheck(v string) (string, error) {
	path, http := strings.CutPrefix(v, "http:")
	if !http {
		if _, err := oneOf(v, "tcp", "none"); err != nil {
			return "", &quadlet.ValueError{Message: fmt.Sprintf("unknown check %q", v), Hint: "write tcp, none or a path such as http:/healthz"}
		}
		return v, nil
	}
	if !strings.HasPrefix(path, "/") {
		return "", &quadlet.ValueError{Offset: len("http:"), Message: "no path", Hint: "write a path on the app's own port, such as http:/healthz"}
	}
	if i := strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return "", &quadlet.ValueError{Offset: len("http:") + i, Message: "unexpected character in the path", Hint: "write it as %20 and the like"}
	}
	return v, nil
}

func parseCount(v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 32)
	if err != nil || n < 0 {
		return 0, &quadlet.ValueError{Message: fmt.Sprintf("%q is not a number of 0 or more", v), Hint: "write a number such as 100, or 0 for no limit"}
	}
	return n, nil
}

// parsePrefix takes an address or a prefix, IPv4-mapped as IPv4.
func parsePrefix(v string) (netip.Prefix, error) {
	bad := func(message, hint string) (netip.Prefix, error) {
		return netip.Prefix{}, &quadlet.ValueError{Message: message, Hint: hint}
	}
	p, err := netip.ParsePrefix(v)
	if addr, e := netip.ParseAddr(v); e == nil {
		p, err = netip.PrefixFrom(addr.WithZone(""), addr.BitLen()), nil
		if addr.Zone() != "" {
			return bad(fmt.Sprintf("address %q has a zone", v), "leave the zone out")
		}
	}
	if err != nil {
		return bad(fmt.Sprintf("%q is neither an address nor a prefix", v), "write an address or a prefix, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32")
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
		return 0, &quadlet.ValueError{Message: fmt.Sprintf("%q is not a mode", v), Hint: "write it in octal, such as 0660"}
	}
	return uint32(mode), nil
}

// parsePercent takes a share of one processor, as CPUQuota= does
// (systemd.resource-control(5)), in whole percents. Nothing is 0.
func parsePercent(v string) (int64, error) {
	if v == "" {
		return 0, nil
	}
	number, percent := strings.CutSuffix(v, "%")
	n, err := strconv.ParseInt(number, 10, 32)
	if !percent || err != nil || n <= 0 {
		return 0, &quadlet.ValueError{Message: fmt.Sprintf("%q is not a share of a processor", v), Hint: "write it like 20%, of two processors 200%"}
	}
	return n, nil
}

// parseGroup takes the name of what only one can have.
func parseGroup(v string) (string, error) {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	if strings.Trim(v, allowed) != "" || strings.HasPrefix(v, "-") || len(v) > 64 {
		return "", &quadlet.ValueError{Message: fmt.Sprintf("%q is not a name", v), Hint: "write what they share, such as gpu: letters, digits, - and _"}
	}
	return v, nil
}

// parseName takes the name or number of a user or group, as systemd does but
// without specifiers (systemd.syntax(7), "User/Group Name Syntax").
func parseName(v string) (string, error) {
	const first = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
	number := strings.Trim(v, "0123456789") == ""
	if !number && (!strings.Contains(first, v[:1]) || strings.Trim(v, first+"0123456789.-") != "") || len(v) > 31 {
		return "", &quadlet.ValueError{Message: fmt.Sprintf("%q is not the name of a user or group", v), Hint: "write a name or a number"}
	}
	return v, nil
}
