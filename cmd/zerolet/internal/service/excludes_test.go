package service

import (
	"net/netip"
	"testing"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet/scale"
)

func TestExcludes(t *testing.T) {
	tcp := func(host string, port uint16) generator.Forward {
		f := generator.Forward{Listen: scale.Listener{Publish: scale.Publish{HostPort: port, Protocol: "tcp"}}}
		if host != "" {
			f.Listen.Host = netip.MustParseAddr(host)
		}
		return f
	}
	udp := tcp("", 80)
	udp.Listen.Protocol = "udp"
	file := generator.Forward{Listen: scale.Listener{HostFile: "/run/a.sock", Publish: scale.Publish{HostPath: "%t/a.sock"}}}
	for _, test := range []struct {
		has  Listener
		want generator.Forward
		is   bool
	}{
		{Listener{"[::]:80", "Stream"}, tcp("", 80), true},
		{Listener{"[::]:80", "Stream"}, tcp("127.0.0.1", 80), true},
		{Listener{"127.0.0.1:80", "Stream"}, tcp("", 80), true},
		{Listener{"127.0.0.1:80", "Stream"}, tcp("127.0.0.2", 80), false},
		{Listener{"[::]:80", "Stream"}, tcp("", 81), false},
		{Listener{"[::]:80", "Stream"}, udp, false},
		{Listener{"[::]:80", "Datagram"}, udp, true},
		{Listener{"/run/a.sock", "Stream"}, file, true},
		{Listener{"/run/b.sock", "Stream"}, file, false},
		{Listener{"/run/a.sock", "Stream"}, tcp("", 80), false},
		{Listener{"[::]:80", "Stream"}, file, false},
	} {
		if is := test.has.Excludes(test.want); is != test.is {
			t.Errorf("%s and %s: %v", test.has, test.want, is)
		}
	}
}
