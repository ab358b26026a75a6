package reach

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

func TestSources(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.88.0.3"), netip.MustParseAddr("fd00::3")}
	for _, test := range []struct {
		to, client string
		admission  admission
		want       string
	}{
		{"127.0.0.1:80", "192.0.2.1:7", admission{own: own}, "192.0.2.1:7 192.0.2.1:0 10.88.0.3:0"},
		{"[::1]:80", "[2001:db8::1]:7", admission{own: own}, "[2001:db8::1]:7 [2001:db8::1]:0 [fd00::3]:0"},
		{"127.0.0.1:80", "[2001:db8::1]:7", admission{own: own}, "10.88.0.3:0"},
		{"127.0.0.1:80", "127.0.0.1:7", admission{own: own}, "10.88.0.3:0"},
		{"127.0.0.1:80", "", admission{own: own}, "10.88.0.3:0"},
		{"[::1]:80", "[::1]:7", admission{own: own}, "[fd00::3]:0"},
		{"[::1]:80", "[fe80::1]:7", admission{own: own}, "[fd00::3]:0"},
		{"127.0.0.1:80", "169.254.0.9:7", admission{own: own}, "10.88.0.3:0"},
		{"127.0.0.1:80", "255.255.255.255:7", admission{own: own}, "10.88.0.3:0"},
		{"127.0.0.1:80", "10.88.0.3:7", admission{own: own}, "10.88.0.3:7 10.88.0.3:0 10.88.0.3:0"},
		{"127.0.0.1:80", "192.0.2.1:7", admission{}, "192.0.2.1:7 192.0.2.1:0 169.254.1.2:0"},
		{"[::1]:80", "", admission{}, "[fd7a::2]:0"},
		{"127.0.0.1:80", "192.0.2.1:7", admission{own: own, err4: unix.EOPNOTSUPP}, "10.88.0.3:0"},
		{"[::1]:80", "[2001:db8::1]:7", admission{err6: unix.EOPNOTSUPP}, "the app would take its client for a local one: operation not supported"},
		{"udp:127.0.0.1:80", "192.0.2.1:7", admission{own: own}, "192.0.2.1:7 192.0.2.1:0 169.254.1.2:0"},
		{"udp:127.0.0.1:80", "127.0.0.1:7", admission{own: own}, "169.254.1.2:0"},
		{"udp:127.0.0.1:80", "192.0.2.1:7", admission{own: own, err4: unix.EPERM}, "the app would take its client for a local one: operation not permitted"},
	} {
		client, _ := netip.ParseAddrPort(test.client)
		all, err := test.admission.sources(proxytest.ParseAddress(t, test.to), client)
		var words []string
		for _, from := range all {
			words = append(words, from.String())
		}
		if err != nil {
			words = []string{err.Error()}
		}
		if got := strings.Join(words, " "); got != test.want {
			t.Errorf("%s for %q: %s, want %s", test.to, test.client, got, test.want)
		}
	}
}

func TestRows(t *testing.T) {
	for _, test := range []struct {
		ports []uint16
		want  []ports
	}{
		{nil, nil},
		{[]uint16{53}, []ports{{53, 53}}},
		{[]uint16{3, 1, 2, 2, 65535, 7, 65534}, []ports{{1, 3}, {7, 7}, {65534, 65535}}},
	} {
		if got := rows(test.ports); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v: %v, want %v", test.ports, got, test.want)
		}
		if got := parsePorts(appendPorts(nil, test.want)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v become %v on the way", test.want, got)
		}
	}
}

// network is a container's network namespace, with an app in it, and the way
// there.
type network struct {
	*contained
	containerNamespace
	t    *testing.T
	way  *nsenter
	said *[]string
}

// inNetwork runs a script in a new network namespace, and the app after it.
func inNetwork(t *testing.T, script, listen string) *network {
	t.Helper()
	b := newBox(t)
	how := []string{"-n"}
	if os.Getuid() != 0 {
		how = []string{"-Urn"}
	}
	script = "set -e; ip link set lo up; " + script + "\n" + `exec "$0"`
	c := b.launch(exec.Command("unshare", append(how, "sh", "-c", script, b.self)...), listen)
	b.writePID(c.Process.Pid)
	var cfg wire.Config
	for addr := range strings.SplitSeq(listen, ",") {
		if to := proxytest.ParseAddress(t, addr); to.Network == wire.UDP {
			cfg.Forwards = append(cfg.Forwards, wire.Forward{Target: to})
		}
	}
	n := &network{contained: c, t: t, said: new([]string)}
	n.way = &nsenter{whereabouts{pidfile: b.pidfile(), unit: "web.service", cgroup: cgroupFile(t, "0::/web.service\n")}}
	n.enter(cfg)
	return n
}

// enter has a proxy go in.
func (n *network) enter(cfg wire.Config) {
	n.containerNamespace = newContainerNamespace(n.way, cfg, func(s string) { *n.said = append(*n.said, s) })
	n.t.Cleanup(n.Close)
}

// another is the way into the same network of the proxy of an app that listens on
// one port.
func (n *network) another(port uint16) *network {
	m := *n
	m.enter(wire.Config{Forwards: []wire.Forward{{Target: wire.Address{Network: wire.UDP, IP: netip.AddrPortFrom(netip.Addr{}, port)}}}})
	return &m
}

// dial connects for a client, by each way in turn, and tells whom the app sees.
func (n *network) dial(to, client string) (end func(), seen string) {
	n.t.Helper()
	from, _ := netip.ParseAddrPort(client)
	addr := proxytest.ParseAddress(n.t, to)
	var err error
	for way := range ways(n.containerNamespace, Targets(addr, true), from) {
		var c connected
		if c, err = dialOne(n.containerNamespace, way, from); err != nil {
			continue
		}
		if way.Network == wire.TCP {
			n.Seen(way, from, c.from, c.failed)
		}
		end = sync.OnceFunc(c.Close)
		if seen, err = n.peer(c.Socket, to); err == nil {
			n.t.Cleanup(end)
			return end, seen
		}
		end()
	}
	n.t.Fatalf("%s for %s: %v", to, client, err)
	return nil, ""
}

// tcp are the addresses of the app's port 80.
func (n *network) tcp() []wire.Address {
	return Targets(proxytest.ParseAddress(n.t, "127.0.0.1:80"), true)
}

func (n *network) peer(s *sock.Socket, to string) (string, error) {
	if strings.HasPrefix(to, "udp:") {
		if err := s.SendDatagram([]byte("x")); err != nil {
			return "", err
		}
	}
	file, _ := s.Poller()
	file.SetDeadline(time.Now().Add(proxytest.Patience))
	line, err := bufio.NewReader(file).ReadString('\n')
	if err != nil {
		return "", err
	}
	seen, err := netip.ParseAddrPort(strings.Fields(line)[1])
	return netip.AddrPortFrom(seen.Addr().Unmap(), seen.Port()).String(), err
}

// command runs one in the namespace.
func (n *network) command(args ...string) string {
	n.t.Helper()
	how := []string{fmt.Sprintf("--net=/proc/%d/ns/net", n.Process.Pid)}
	if os.Getuid() != 0 {
		how = append(how, fmt.Sprintf("--user=/proc/%d/ns/user", n.Process.Pid), "--preserve-credentials")
	}
	out, err := exec.Command("nsenter", append(how, args...)...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

const (
	dual = "ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up; " +
		"ip address add 10.99.0.3/24 broadcast + dev eth0; ip address add fd99::3/64 nodad dev eth0"
	everywhere = "[::]:80,udp:[::]:80"
)

// The app sees the client's own address and port, or what comes next to that.
func TestClientAddress(t *testing.T) {
	for _, test := range []struct{ name, script, listen, client, tcp, udp string }{
		{"IPv4", dual, everywhere, "192.0.2.1:4711", "192.0.2.1:4711", "192.0.2.1:4711"},
		{"IPv6", dual, everywhere, "[2001:db8::1]:4711", "[2001:db8::1]:4711", "[2001:db8::1]:4711"},
		{"loopback app", dual, "127.0.0.1:80,[::1]:80,udp:127.0.0.1:80,udp:[::1]:80", "[2001:db8::1]:4711", "[2001:db8::1]:4711", "[2001:db8::1]:4711"},
		{"no network", "", everywhere, "192.0.2.1:4711", "192.0.2.1:4711", "192.0.2.1:4711"},
		{"no network, IPv6", "", everywhere, "[2001:db8::1]:4711", "[2001:db8::1]:4711", "[2001:db8::1]:4711"},
		{"no client", dual, everywhere, "", "10.99.0.3:", "169.254.1.2:"},
		{"no client and no network", "", everywhere, "", "169.254.1.2:", "169.254.1.2:"},
		{"loopback", dual, everywhere, "127.0.0.1:4711", "10.99.0.3:", "169.254.1.2:"},
		{"IPv6 loopback", dual, everywhere, "[::1]:4711", "[fd99::3]:", "[fd7a::2]:"},
		{"neighbour", dual, everywhere, "10.99.0.4:4711", "10.99.0.4:4711", "10.99.0.4:4711"},
		{"own address", dual, everywhere, "10.99.0.3:4711", "10.99.0.3:4711", "10.99.0.3:4711"},
		{"own address, loopback app", dual, "127.0.0.1:80,udp:127.0.0.1:80", "10.99.0.3:4711", "10.99.0.3:4711", "169.254.1.2:"},
		{"broadcast there", dual, everywhere, "10.99.0.255:4711", "10.99.0.3:", "169.254.1.2:"},
		{"IPv4 app", dual, "0.0.0.0:80,udp:0.0.0.0:80", "[2001:db8::1]:4711", "10.99.0.3:", "169.254.1.2:"},
		{"IPv6 app", dual, "[::1]:80,udp:[::1]:80", "192.0.2.1:4711", "[fd99::3]:", "[fd7a::2]:"},
		{"own address alone", dual, "10.99.0.3:80,udp:10.99.0.3:80", "192.0.2.1:4711", "10.99.0.3:", "10.99.0.3:"},
		{"the app's port", dual, everywhere, "192.0.2.1:80", "192.0.2.1:", "192.0.2.1:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := inNetwork(t, test.script, test.listen)
			_, tcp := n.dial("127.0.0.1:80", test.client)
			_, udp := n.dial("udp:127.0.0.1:80", test.client)
			for _, seen := range [][2]string{{tcp, test.tcp}, {udp, test.udp}} {
				if exact := !strings.HasSuffix(seen[1], ":"); exact && seen[0] != seen[1] || !strings.HasPrefix(seen[0], seen[1]) {
					t.Errorf("the app sees %s, want %s", seen[0], seen[1])
				}
			}
			t.Log(*n.said)
		})
	}
}

// Two connections or sessions of one client's port can be told apart.
func TestClientPortTwice(t *testing.T) {
	n := inNetwork(t, dual, everywhere+",[::]:81,udp:[::]:81")
	for _, network := range []string{"", "udp:"} {
		const client = "192.0.2.1:4711"
		_, first := n.dial(network+"127.0.0.1:80", client)
		_, other := n.dial(network+"127.0.0.1:80", client)
		_, elsewhere := n.dial(network+"127.0.0.1:81", client)
		if first != client || other == client || !strings.HasPrefix(other, "192.0.2.1:") || elsewhere != client {
			t.Errorf("%q: the app sees %s, then %s, and on another port %s", network, first, other, elsewhere)
		}
	}
}

// A client has a route for as long as it has a session. One that was there before
// is left alone.
func TestClientRoutes(t *testing.T) {
	n := inNetwork(t, dual, everywhere)
	routes := func() []string {
		return slices.Sorted(strings.Lines(n.command("ip", "-4", "route", "show", "table", fmt.Sprint(clientTable(n.udp)))))
	}
	endA, _ := n.dial("udp:127.0.0.1:80", "192.0.2.1:1")
	endB, _ := n.dial("udp:127.0.0.1:80", "192.0.2.1:2")
	endC, _ := n.dial("udp:127.0.0.1:80", "192.0.2.2:1")
	if got := routes(); len(got) != 2 {
		t.Errorf("routes %q, want two", got)
	}
	if s, err := Dial(Prompt(n.containerNamespace), n.tcp(), netip.MustParseAddrPort("192.0.2.3:1")); err == nil {
		s.Close() // who was in a hurry leaves nobody else in one
	}
	endA()
	endC()
	if got := routes(); len(got) != 1 || !strings.HasPrefix(got[0], "local 192.0.2.1 ") {
		t.Errorf("routes %q, want one", got)
	}
	endB()
	if got := routes(); len(got) != 0 {
		t.Errorf("routes %q, want none", got)
	}
	n.command("ip", "route", "add", "local", "192.0.2.9", "dev", "lo", "src", "127.0.0.1", "proto", "static", "table", fmt.Sprint(clientTable(n.udp)))
	endD, seen := n.dial("udp:127.0.0.1:80", "192.0.2.9:1")
	endD()
	if got := routes(); seen != "192.0.2.9:1" || len(got) != 1 {
		t.Errorf("seen as %s; routes %q, want one", seen, got)
	}
}

// Apps that share a network have one client, each for as long as it has a session
// with it.
func TestSharedNetwork(t *testing.T) {
	n := inNetwork(t, dual, everywhere+",udp:[::]:53")
	first, other := n.another(80), n.another(53)
	end, _ := first.dial("udp:127.0.0.1:80", "192.0.2.1:1")
	for _, client := range []string{"192.0.2.1:2", "192.0.2.1:3"} {
		if _, seen := other.dial("udp:127.0.0.1:53", client); seen != client {
			t.Errorf("the other app sees %s, want %s", seen, client)
		}
		end()
	}
}

// Rules that somebody has removed, or put others before, are made anew when the
// app does not answer, and no client is taken for another one meanwhile.
func TestRulesAreLost(t *testing.T) {
	remove := fmt.Sprintf("ip $f rule del lookup %d; ip $f rule del lookup %d", loopbackTable, clientTable(rows([]uint16{80})))
	for name, lose := range map[string]string{
		"removed":   remove,
		"overtaken": "ip $f route add default dev eth0 table 7; ip $f rule add not fwmark 7 lookup 7", // as wg-quick(8) does
	} {
		t.Run(name, func(t *testing.T) {
			n := inNetwork(t, dual, everywhere)
			n.dial("127.0.0.1:80", "192.0.2.1:1")
			n.dial("127.0.0.1:80", "[2001:db8::1]:1")
			n.command("sh", "-ec", "for f in -4 -6; do "+lose+"; done")
			for _, client := range []string{"192.0.2.2:1", "[2001:db8::2]:1"} {
				for _, network := range []string{"", "udp:"} {
					if seen := n.eventually(network+"127.0.0.1:80", client); seen != client {
						t.Errorf("the app sees %s%s as %s", network, client, seen)
					}
				}
			}
		})
	}
}

// eventually connects for a client until that can be done.
func (n *network) eventually(to, client string) (seen string) {
	n.t.Helper()
	from, addr := netip.MustParseAddrPort(client), proxytest.ParseAddress(n.t, to)
	proxytest.Eventually(n.t, client+" is back", func() bool {
		s, err := Dial(n.containerNamespace, Targets(addr, true), from)
		if err != nil {
			return false
		}
		defer s.Close()
		seen, err = n.peer(s, to)
		return err == nil
	})
	return seen
}

// While the helper is lost, and with it the way, no client comes in by another
// way as somebody else.
func TestHelperIsLost(t *testing.T) {
	n := inNetwork(t, dual, everywhere)
	n.dial("127.0.0.1:80", "192.0.2.1:1")
	for _, network := range []string{"", "udp:"} {
		n.loseHelper()
		if seen := n.eventually(network+"127.0.0.1:80", "192.0.2.2:1"); seen != "192.0.2.2:1" {
			t.Errorf("the app sees %s192.0.2.2:1 as %s", network, seen)
		}
	}
}

// What has begun in one container does not go on in the next, where the client
// would be somebody else.
func TestContainerIsReplaced(t *testing.T) {
	n := inNetwork(t, dual, everywhere)
	client := netip.MustParseAddrPort("192.0.2.1:1")
	tries := 0
	err := TryEach(n.containerNamespace, n.tcp(), client, func(source Source, addr wire.Address) error {
		tries++
		s, err := DialOne(source, addr, client)
		if err != nil {
			return err
		}
		s.Close()
		n.loseHelper()
		n.Refused() // somebody else has noticed
		n.dial("127.0.0.1:80", "192.0.2.2:1")
		return unix.ECONNREFUSED
	})
	if tries != 2 || !errors.Is(err, ErrNoContainer) {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// An app that begins to listen while it is dialled sees its clients as later ones.
func TestListensMeanwhile(t *testing.T) {
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	other := wire.Address{Network: wire.TCP, IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 2}), proxytest.AddrOf(front).IP.Port())}
	late := &lateSource{first: other, listen: func() { proxytest.Accepted(t, proxytest.ListenTCP(t, other.String())) }}
	s, err := Dial(late, []wire.Address{other, proxytest.AddrOf(front)}, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if to := sock.Address(wire.TCP, proxytest.Must(unix.Getpeername(s.FD))(t)); to != other {
		t.Errorf("it is dialled at %s, not at %s", to, other)
	}
}

// lateSource is the proxy's own namespace, where an app begins to listen once it
// has been dialled at the first address.
type lateSource struct {
	ownNamespace
	first  wire.Address
	listen func()
}

func (l *lateSource) Sources(to wire.Address, client netip.AddrPort) ([]netip.AddrPort, error) {
	if to != l.first {
		l.listen()
	}
	return l.ownNamespace.Sources(to, client)
}

// loseHelper has the helper answer nothing more, and know of a container that has
// ended.
func (n *network) loseHelper() {
	n.t.Helper()
	ended := exec.Command("sleep", "infinity")
	if err := ended.Start(); err != nil {
		n.t.Fatal(err)
	}
	pidfd := proxytest.Must(unix.PidfdOpen(ended.Process.Pid, 0))(n.t)
	_ = ended.Process.Kill()
	_ = ended.Wait()
	n.helper.container.close()
	n.helper.container = &container{pidfd: pidfd}
	_ = n.helper.conn.Close()
	for kind, fds := range n.helper.spare {
		closeFDs(fds)
		delete(n.helper.spare, kind)
	}
}

// Who finds the app's backlog full waits, and does not come in as somebody else.
func TestBacklogIsFull(t *testing.T) {
	n := inNetwork(t, dual+"; echo 4 >/proc/sys/net/core/somaxconn", "127.0.0.1:80,10.99.0.3:80")
	if err := n.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer n.Process.Signal(unix.SIGCONT)
	client := netip.MustParseAddr("192.0.2.1")
	for port := uint16(1024); ; port++ {
		s, err := Dial(n.containerNamespace, n.tcp(), netip.AddrPortFrom(client, port))
		if errors.Is(err, unix.ETIMEDOUT) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if from, err := sock.LocalAddress(s.FD); err != nil || from != client {
			t.Fatalf("client %d is %s, %v", port-1023, from, err)
		}
	}
}

// Why an app does not see its client is said once for each reason.
func TestHiddenClientsAreSaid(t *testing.T) {
	n := inNetwork(t, dual, "0.0.0.0:80")
	for _, client := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "127.0.0.1:1", "169.254.7.7:1", ""} {
		n.dial("127.0.0.1:80", client)
	}
	want := []string{
		"the app sees 10.99.0.3 and not 2001:db8::1 as its client: it does not listen on ::1",
		"the app sees 10.99.0.3 and not 169.254.7.7 as its client: that means something else there",
	}
	if !slices.Equal(*n.said, want) {
		t.Errorf("said %q, want %q", *n.said, want)
	}
	n.hide = true
	if _, seen := n.dial("127.0.0.1:80", "192.0.2.1:5"); !strings.HasPrefix(seen, "10.99.0.3:") {
		t.Errorf("hidden, the client is %s", seen)
	}
}

// In a hurry what is at hand is taken, and nothing else is waited for, nor taken
// in its place.
func TestHurry(t *testing.T) {
	n := inNetwork(t, dual, everywhere)
	hurry := func() error {
		s, err := Dial(Prompt(n.containerNamespace), n.tcp(), netip.MustParseAddrPort("192.0.2.1:0"))
		if err == nil {
			s.Close()
		}
		return err
	}
	if err := hurry(); !errors.Is(err, errSlow) {
		t.Errorf("without a helper: %v", err)
	}
	n.dial("127.0.0.1:80", "192.0.2.1:1")
	n.dial("127.0.0.1:80", "[2001:db8::1]:1")
	for i := range batch - 1 {
		if err := hurry(); err != nil {
			t.Errorf("%d sockets are there: %v", batch-1-i, err)
		}
	}
	if err := hurry(); !errors.Is(err, errSlow) {
		t.Errorf("no socket is there: %v", err)
	}
	n.dial("127.0.0.1:80", "192.0.2.1:2")
	n.mu.Lock()
	err := hurry()
	n.mu.Unlock()
	if !errors.Is(err, errSlow) {
		t.Errorf("somebody asks the helper: %v", err)
	}
}
