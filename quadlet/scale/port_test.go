package scale

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// publishTests say what a value is in PublishPort= and in Listen=; listen is
// empty where that is the same.
func publishTests() []struct{ text, publish, listen string } {
	return []struct{ text, publish, listen string }{
		{"8080:80", "any 8080 > 80 tcp", ""},
		{"8080:80/tcp", "any 8080 > 80 tcp", ""},
		{"53:53/udp", "any 53 > 53 udp", ""},
		{"53:53/UDP", "any 53 > 53 udp", ""},
		{"53:53/tcp,udp", "any 53 > 53 tcp; any 53 > 53 udp", ""},
		{"53:53/udp,,udp", "any 53 > 53 udp; any 53 > 53 tcp", ""},
		{"127.0.0.1:8080:80", "127.0.0.1 8080 > 80 tcp", ""},
		{"0.0.0.0:80:80", "0.0.0.0 80 > 80 tcp", ""},
		{"[::1]:53:53/udp", "::1 53 > 53 udp", ""},
		{"[::]:80:80", ":: 80 > 80 tcp", ""},
		{"[127.0.0.1]:80:80", "127.0.0.1 80 > 80 tcp", ""},
		{"[::ffff:10.0.0.1]:80:80", "10.0.0.1 80 > 80 tcp", ""},
		{"8080-8090:80-90", "any 8080 > 80 tcp x11", ""},
		{"127.0.0.1:1-65535:1-65535/udp", "127.0.0.1 1 > 1 udp x65535", ""},
		{"+080:+80", "any 80 > 80 tcp", ""},

		{"", `0: no container port`, ""},
		{"80", `0: no host port, Podman would take any that is free | write "80:80" to listen on the same port`, ""},
		{"80/udp", `0: no host port, Podman would take any that is free | write "80:80/udp" to listen on the same port`, ""},
		{":80", `0: no host port, Podman would take any that is free | write "80:80" to listen on the same port`, ""},
		{"127.0.0.1::80", `10: no host port, Podman would take any that is free | write "127.0.0.1:80:80" to listen on the same port`, ""},
		{"[::1]:80", `5: no host port, Podman would take any that is free | write "[::1]:80:80" to listen on the same port`, ""},
		{"[::1]::80", `6: no host port, Podman would take any that is free | write "[::1]:80:80" to listen on the same port`, ""},
		{"8080:", `5: no container port`, ""},
		{"8080:/tcp", `5: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, "any 8080 > /tcp"},
		{"8080:80/", `8: no protocol after the / | write tcp or udp, or remove the /`, ""},
		{"8080:80/sctp", `8: sctp cannot be scaled | name the ports to scale with Listen= in [ScaleToZero]; podman goes on publishing the others`, `8: sctp cannot be scaled | write tcp, or leave this line to PublishPort=`},
		{"8080:80/tcp,sctp", `12: sctp cannot be scaled | name the ports to scale with Listen= in [ScaleToZero]; podman goes on publishing the others`, `12: sctp cannot be scaled | write tcp, or leave this line to PublishPort=`},
		{"8080:80/tcp/udp", `8: unknown protocol "tcp/udp" | write tcp or udp`, ""},
		{"8080:80/dccp", `8: unknown protocol "dccp" | write tcp or udp`, ""},
		{"0:80", `0: host port 0 is out of range | ports are from 1 to 65535`, ""},
		{"8080:0", `5: container port 0 is out of range | ports are from 1 to 65535`, ""},
		{"8080:65536", `5: container port 65536 is out of range | ports are from 1 to 65535`, ""},
		{"8080:99999999999999999999", `5: container port 99999999999999999999 is out of range | ports are from 1 to 65535`, ""},
		{"8080:x", `5: container port "x" is not a number`, ""},
		{"127.0.0.1:80", `0: host port "127.0.0.1" is not a number`, ""},
		{
			"@ADDRESS@:80:80", `0: "@ADDRESS@" is not an IP address | write an IP address: names are not accepted`,
			`0: an abstract socket has no permissions: everybody on the machine could connect, or take its place | name a path, such as %t/web.sock`,
		},
		{"80-81:80", `0: 2 host ports for 1 container port | both ranges must have the same length`, ""},
		{"80:80-82", `0: 1 host port for 3 container ports | both ranges must have the same length`, ""},
		{"80-81:80-82", `0: 2 host ports for 3 container ports | both ranges must have the same length`, ""},
		{"81-80:80-81", `3: range of host ports ends at 80, before it begins | write the lower one first, or one port alone`, ""},
		{"80-80:80-80", `9: range of container ports ends at 80, before it begins | write the lower one first, or one port alone`, ""},
		{"-80:80", `0: missing number of a host port | ports are from 1 to 65535`, ""},
		{"80:80-", `6: missing number of a container port | ports are from 1 to 65535`, ""},
		{"80:80-81-82", `6: container port "81-82" is not a number`, ""},
		{"localhost:80:80", `0: "localhost" is not an IP address | write an IP address: names are not accepted`, ""},
		{"10.0.0.256:80:80", `0: "10.0.0.256" is not an IP address | write an IP address: names are not accepted`, ""},
		{"[fe80::1:80:80", `0: missing ] after the address | write it like "[::1]:8080:80"`, ""},
		{"[::1]80:80", `5: expected : after the address`, ""},
		{"[::1]", `0: container port "[::1]" is not a number`, ""},
		{"::1:80:80", `0: an IPv6 address needs brackets | write it like "[::1]:8080:80"`, ""},
		{"[]:80:80", `1: no address before the colon | leave out the colon to listen on all addresses`, ""},
		{":80:80", `0: no address before the colon | leave out the colon to listen on all addresses`, ""},
		{"${PORT}:80", `0: a variable cannot be used here | write the number`, ""},
		{"80:$PORT", `3: a variable cannot be used here | write the number`, ""},
		{"80%i:80", `2: a specifier cannot be used here | write the number`, `0: host port "80%i" is not a number`},
		{"%i:80", `0: a specifier cannot be used here | write the number`, `0: host port "%i" is not a number`},
		{"80:%i", `3: a specifier cannot be used here | write the number`, `3: container port "%i" is not a number`},
		{
			"[fe80::1%eth0]:80:80",
			`1: address "fe80::1%eth0" has a zone | Podman accepts none, and systemd forgets the address if the interface is not up yet: leave the zone out, or listen on [::]`,
			"",
		},
		{`"80:80"`, `0: unexpected quote | remove the quotes`, ""},
		{"80:80 81:81", `5: unexpected space | write one line for each port`, ""},
		{"80:80#web", `5: unexpected '#' | a comment needs a line of its own`, ""},
		{"80:8\x010", `4: unexpected character '\x01' | remove it`, ""},
		{"80:80\xff", `5: unexpected character '�' | remove it`, ""},

		{"9000:/run/php/fpm.sock", `5: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, "any 9000 > /run/php/fpm.sock"},
		{
			"/run/web.sock:80", `0: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`,
			"/run/web.sock > 80",
		},
		{"%t/web.sock:80", "0: a specifier cannot be used here | write the number", "%t/web.sock > 80"},
		{"%t/web.sock:80/tcp", "0: a specifier cannot be used here | write the number", "%t/web.sock > 80"},
		{"%t/a.sock:%t/b.sock", "0: a specifier cannot be used here | write the number", "%t/a.sock > %t/b.sock"},
		{"[::1]:9000:%t/x.sock", "11: a specifier cannot be used here | write the number", "::1 9000 > %t/x.sock"},
		{"127.0.0.1:9000:/x", `15: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, "127.0.0.1 9000 > /x"},
		{"/run/web.sock", `13: no container port`, `0: no container port | write it like "%t/web.sock:80"`},
		{"/run/web.sock:", `14: no container port`, ""},
		{"/run/web.sock:80/udp", `0: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `14: a unix socket is a stream, not udp | remove the protocol`},
		{"/run/web.sock:80-81", `0: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `14: a range of ports on one unix socket | write one line for each port`},
		{"80-81:/run/x", `6: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `0: 2 host ports for 1 container port | both ranges must have the same length`},
		{":/run/x", `1: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `0: no host port, Podman would take any that is free`},
		{"80:/run/a:b", `3: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `9: a path with ':' cannot be used here | rename the socket`},
		{"80:/run/", `3: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `3: path "/run/" is a directory | name a socket in it`},
		{"80:/" + strings.Repeat("x", 107), `3: a unix socket cannot be used here | name it in Listen= of [ScaleToZero]`, `3: path is too long | a unix socket has at most 107 bytes`},
	}
}

func showPublish(ps []Publish, err error) string {
	var ve *quadlet.ValueError
	if errors.As(err, &ve) {
		s := fmt.Sprintf("%d: %s", ve.Offset, ve.Message)
		if ve.Hint != "" && ve.Hint != publishHint {
			s += " | " + ve.Hint
		}
		return s
	}
	var out []string
	for _, p := range ps {
		out = append(out, p.show())
	}
	return strings.Join(out, "; ")
}

func (p Publish) show() string {
	var b strings.Builder
	switch {
	case p.HostPath != "":
		b.WriteString(p.HostPath)
	case p.Host.IsValid():
		fmt.Fprintf(&b, "%s %d", p.Host, p.HostPort)
	default:
		fmt.Fprintf(&b, "any %d", p.HostPort)
	}
	if p.ContainerPath != "" {
		b.WriteString(" > " + p.ContainerPath)
	} else {
		fmt.Fprintf(&b, " > %d", p.ContainerPort)
	}
	if !p.Unix() || p.Protocol != "tcp" {
		b.WriteString(" " + p.Protocol)
	}
	if p.Count != 1 {
		fmt.Fprintf(&b, " x%d", p.Count)
	}
	return b.String()
}

func TestParsePublish(t *testing.T) {
	for _, tt := range publishTests() {
		if got := showPublish(ParsePublish(tt.text)); got != tt.publish {
			t.Errorf("PublishPort=%s\n got %s\nwant %s", tt.text, got, tt.publish)
		}
		want := tt.listen
		if want == "" {
			want = tt.publish
		}
		if got := showPublish(ParseListen(tt.text)); got != want {
			t.Errorf("Listen=%s\n got %s\nwant %s", tt.text, got, want)
		}
	}
}

func FuzzPublish(f *testing.F) {
	for _, tt := range publishTests() {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		publish, err := ParsePublish(text)
		checkPublish(t, text, publish, err)
		listen, lerr := ParseListen(text)
		checkPublish(t, text, listen, lerr)
		if err == nil && !slices.Equal(publish, listen) {
			t.Errorf("%q is %v in PublishPort=, %v in Listen=", text, publish, listen)
		}
		if err == nil && publish[0].Unix() {
			t.Errorf("PublishPort=%q is a unix socket", text)
		}
	})
}

func checkPublish(t *testing.T, text string, ps []Publish, err error) {
	t.Helper()
	if err != nil {
		var ve *quadlet.ValueError
		if !errors.As(err, &ve) || ve.Offset < 0 || ve.Offset > len(text) || ve.Message == "" {
			t.Errorf("%q: %#v", text, err)
		}
		return
	}
	if len(ps) == 0 {
		t.Errorf("%q: nothing", text)
	}
	for _, p := range ps {
		host := p.HostPath != "" || p.HostPort > 0 && int(p.HostPort)+p.Count <= 65536
		container := p.ContainerPath != "" || p.ContainerPort > 0 && int(p.ContainerPort)+p.Count <= 65536
		if !host || !container || p.Count < 1 || p.Protocol != "tcp" && p.Protocol != "udp" ||
			p.Unix() && (p.Count != 1 || p.Protocol != "tcp") || p.Text != text || p.Host.Zone() != "" {
			t.Errorf("%q: %+v", text, p)
		}
	}
}
