package protocols

import (
	"fmt"
	"strings"
)

// A name server, NSD, and dig, which sends its question once: the first datagram
// wakes the server, over UDP as over TCP, and large answers come whole.
func dns(s service) {
	long := strings.Repeat("x", 250)
	s.file("nsd.conf", strings.Join([]string{
		"server:", ` username: ""`, ` pidfile: ""`, " zonesdir: /srv", " xfrdfile: /tmp/xfrd.state", " zonelistfile: /tmp/zone.list",
		" ipv4-edns-size: 4096", "remote-control:", " control-enable: no", "zone:", " name: example.org", " zonefile: zone", "",
	}, "\n"))
	s.file("zone", strings.Join([]string{
		"$ORIGIN example.org.", "$TTL 60", "@ SOA ns mail 1 60 60 60 60", "@ NS ns", "ns A 192.0.2.1", "www A 192.0.2.80",
		"long TXT " + strings.Repeat(`"`+long+`" `, 14), "",
	}, "\n"))
	s.declare(servers, s.publish(53)+"/tcp,udp", "Volume="+s.dir()+":/srv:ro", "Exec=/usr/sbin/nsd -d -c /srv/nsd.conf")
	dig := func(args ...string) string {
		args = append([]string{"/usr/bin/dig", "@127.0.0.1", "-p", fmt.Sprint(s.Port), "+tries=1", "+time=100", "+short", "+noedns"}, args...)
		return s.client(nil, nil, args...)
	}
	for _, protocol := range []string{"+notcp", "+tcp"} {
		if got := dig(protocol, "www.example.org", "A"); got != "192.0.2.80\n" {
			s.Errorf("%s: %q", protocol, got)
		}
		s.asleep()
	}
	if got := dig("+notcp", "+ignore", "+bufsize=4096", "long.example.org", "TXT"); strings.Count(got, long) != 14 {
		s.Errorf("a large answer came as %d bytes", len(got))
	}
	if got := dig("@::1", "ns.example.org", "A"); got != "192.0.2.1\n" {
		s.Errorf("over IPv6: %q", got)
	}
	s.asleep()
}
