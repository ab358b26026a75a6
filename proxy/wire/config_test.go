package wire

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func parseAddress(t testing.TB, s string) Address {
	t.Helper()
	a, err := ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestParseArgs(t *testing.T) {
	got, err := ParseArgs(strings.Fields("--container=httpd.service --pidfile=/run/user/1000/httpd.pid --idle-timeout=30s" +
		" --start-timeout=5m0s --drain-timeout=infinity --forward=[::]:8080=127.0.0.1:80 --forward=192.0.2.7:443=[::1]:8443" +
		" --ready-check=http:/healthz --started=/run/x.pid --proxy-protocol=v2 --max-connections=7 --client-address=proxy" +
		" --allow-from=192.0.2.0/24 --allow-from=::1/128 --connection-idle-timeout=1m30s" +
		" --forward=unix:/run/web.sock=127.0.0.1:80 --forward=udp:[::]:53=udp:127.0.0.1:53"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Container: "httpd.service", PIDFile: "/run/user/1000/httpd.pid",
		IdleTimeout: 30 * time.Second, StartTimeout: 5 * time.Minute, DrainTimeout: Infinity,
		ReadyCheck: "/healthz", Started: []string{"/run/x.pid"}, ProxyProtocol: 2, MaxConnections: 7, HideClient: true, ConnectionIdleTimeout: 90 * time.Second,
		AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("::1/128")},
		Forwards: []Forward{
			{parseAddress(t, "[::]:8080"), parseAddress(t, "127.0.0.1:80")},
			{parseAddress(t, "192.0.2.7:443"), parseAddress(t, "[::1]:8443")},
			{Address{Network: Unix, Path: "/run/web.sock"}, parseAddress(t, "127.0.0.1:80")},
			{parseAddress(t, "udp:[::]:53"), parseAddress(t, "udp:127.0.0.1:53")},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if again, err := ParseArgs(want.Args()); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%q is read as %+v, %v", want.Args(), again, err)
	}
}

// What is written is what is read, also of the fields that have no place beside
// those of the test before, and every option is explained.
func TestArgs(t *testing.T) {
	const container = "a.service"
	forwards := []Forward{{parseAddress(t, "[::]:80"), parseAddress(t, "127.0.0.1:80")}}
	written := make(map[string]bool)
	for _, want := range []Config{
		{Open: true},
		{Waker: true},
		{Container: container, Forwards: forwards, Start: "/run/w", ByData: true, Probes: []string{"/a*", "/b"}, IgnoreAgents: []string{"*x y*"}},
		{Thaw: true, Freeze: []string{container, "b.service"}},
		{Container: container, Enter: true, Client: "a-proxy.service", Freeze: []string{container}},
		{Container: container, Forwards: forwards, Freeze: []string{container}, EntryOutside: "/run/e", StopAfter: Infinity, Reclaim: true},
		{Container: container, Forwards: forwards, Start: "/run/w", WaitingPage: true, WaitingPageFile: "/p", WakeTimes: "/t", WakeResult: "/r"},
		{Container: container, Enter: true, Client: "a-proxy.service", PIDFile: "/run/a.pid"},
		{Container: container, Native: true, IdleTimeout: time.Millisecond},
		{Container: container, Forwards: forwards, Infra: true},
		{Container: container, Forwards: forwards, PIDFile: "/run/a.pid", Conmon: true, Members: []string{"b.service", "c.service"}},
		{Container: container, Forwards: forwards, HostNetwork: true, ReadyCheck: NoCheck, Volumes: []string{"/a b", "/c"}},
		{Container: container, Forwards: forwards, Entry: "/run/e", ReadyCheck: "/", Started: []string{"/s"}, ProxyProtocol: 1, StartTimeout: Infinity},
		{Container: container, Forwards: forwards, HideClient: true, MaxConnections: 1, DrainTimeout: 1, ConnectionIdleTimeout: 1},
		{Container: container, Forwards: forwards, StayAwake: time.Hour, Calendar: "/run/c", GivesWay: true, BusyCPU: 20},
		{Container: container, Forwards: []Forward{{StandInAddress("proxy", 80), parseAddress(t, "127.0.0.1:80")}}, StandIn: "/run/s"},
		{Container: container, Forwards: forwards, Start: "a-wake.target", AllowFrom: []netip.Prefix{netip.MustParsePrefix("::/0")}},
	} {
		args := want.Args()
		for _, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			written[name] = true
		}
		got, err := ParseArgs(args)
		if !want.Open && !want.Waker && !want.Thaw {
			want.setDefaults()
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %+v, %v", args, got, err)
		}
	}
	for _, o := range new(Config).options() {
		if !written["--"+o.name] || !strings.Contains(Usage, "--"+o.name) {
			t.Errorf("--%s: written %v, in the usage %v", o.name, written["--"+o.name], strings.Contains(Usage, "--"+o.name))
		}
	}
}

// Whose proxy it is, and whom it lets in, can be told of words that another
// version has written.
func TestWords(t *testing.T) {
	words := strings.Fields("zerolet-proxy --frobnicate --container=a.service --allow-from=::/0 --allow-from=x --allow-from=192.0.2.0/24")
	if !Serves(words, "a.service") || Serves(words, "b.service") {
		t.Error("not the proxy of a.service alone")
	}
	if got := fmt.Sprint(Members([]string{"--member=b.service", "--member=c.service", "--members=d.service"})); got != "[b.service c.service]" {
		t.Error(got)
	}
	if got := fmt.Sprint(AllowFrom(words)); got != "[::/0 192.0.2.0/24]" {
		t.Error(got)
	}
}

// Each option that the usage describes is in its synopsis, too.
func TestUsage(t *testing.T) {
	synopsis, described, _ := strings.Cut(Usage, "\n\n")
	for _, match := range regexp.MustCompile(`(?m)^  (--[a-z-]+)`).FindAllStringSubmatch(described, -1) {
		if !regexp.MustCompile(regexp.QuoteMeta(match[1]) + `[]= \n]`).MatchString(synopsis + "\n") {
			t.Errorf("the synopsis has no %s", match[1])
		}
	}
}

func TestParseArgsErrors(t *testing.T) {
	const ok = "--container=a.service --forward=[::]:80=127.0.0.1:80"
	for args, want := range map[string]string{
		"": "--container= is missing",
		"--container=a --forward=[::]:80=127.0.0.1:80": "not the name of a service unit",
		"--container=../a.service":                     "not the name of a service unit",
		"--container=a.service":                        "--forward= is missing",
		ok + " --pidfile=a.pid":                        "not an absolute path",
		ok + " --conmon":                               "--conmon without --pidfile=",
		ok + " --member=b":                             "not the name of a service unit",
		ok + " --pidfile=/run/a.pid --entry=/run/e":    "exclude each other",
		ok + " --pidfile=/run/a.pid --host-network":    "exclude each other",
		ok + " --pidfile=/run/a.pid --infra":           "exclude each other",
		ok + " --entry=/run/e --infra":                 "exclude each other",
		ok + " --volume=a":                             "not an absolute path",
		ok + " --entry=e":                              "not an absolute path",
		ok + " --client=a-proxy.service":               "go together",
		ok + " --client-address=host":                  "want client or proxy",
		ok + " --idle-timeout=0s":                      "more than zero",
		ok + " --idle-timeout=-1s":                     "more than zero",
		ok + " --start-timeout=1minute":                "want a time",
		ok + " --forward=[::]:80=127.0.0.1:81":         "forwarded twice",
		ok + " --forward=0.0.0.0:80=127.0.0.1:81":      "forwarded twice",
		ok + " --forward=[::ffff:1.2.3.4]:80":          "want LISTEN=TARGET",
		ok + " --forward=8080=127.0.0.1:81":            "want ADDRESS:PORT",
		ok + " --forward=[::]:81=127.0.0.1:0":          "want ADDRESS:PORT",
		ok + " --forward=[::]:81=[::]:81":              "no address to connect to",
		ok + " --forward=unix:web.sock=127.0.0.1:81":   "want unix:/PATH",
		ok + " --forward=udp:[::]:81=127.0.0.1:81":     "from datagrams to a stream",
		ok + " --ready-check=http:x --started=/x":      "want none or http:/PATH",
		ok + " --ready-check=http:/a\x7f --started=/x": "want none or http:/PATH",
		ok + " --ready-check=http:/x":                  "without --started=",
		ok + " --proxy-protocol=v3":                    "want v1 or v2",
		ok + " --max-connections=-1":                   "is negative",
		ok + " --allow-from=::1":                       "no '/'",
		ok + " --stand-in=s":                           "not an absolute path",
		ok + " --stand-in=/s":                          "go together",
		ok + " --forward=network:a:81=127.0.0.1:81":    "go together",
		ok + " --forward=network:a=127.0.0.1:81":       "want network:DEVICE:PORT",
		ok + " --forward=[::]:81=network:a:81":         "no address to connect to",
		"--open --native":                              "stand alone",
		"--waker --native":                             "stand alone",
		ok + " --by-data":                              "want --start=",
		ok + " --start=/w --waiting-page":              "go together",
		ok + " --start=/w --probe=[":                   "not a glob",
		ok + " --max-connections=x":                    "want a number",
		ok + " extra":                                  "unexpected argument",
		ok + " --frobnicate":                           "not defined",
	} {
		_, err := ParseArgs(strings.Fields(args))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", args, err, want)
		}
	}
	if _, err := ParseArgs([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}

func TestListenKey(t *testing.T) {
	for in, want := range map[string]string{
		"0.0.0.0:80": "[::]:80", "[::]:80": "[::]:80", "[::ffff:0.0.0.0]:80": "[::]:80",
		"[::ffff:192.0.2.1]:80": "192.0.2.1:80", "[fe80::1%lo]:80": "[fe80::1]:80", "127.0.0.1:80": "127.0.0.1:80",
	} {
		if got := parseAddress(t, in).ListenKey().String(); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
