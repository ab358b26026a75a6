package scale

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// Each key says everything about itself.
func TestKeysAreComplete(t *testing.T) {
	mayBeEmpty := []string{"Default", "InStops", "check"}
	seen := make(map[string]bool)
	for _, k := range keys {
		row := reflect.ValueOf(k)
		for i := range row.NumField() {
			if name := row.Type().Field(i).Name; row.Field(i).IsZero() && !slices.Contains(mayBeEmpty, name) {
				t.Errorf("%s= has no %s", k.Name, name)
			}
		}
		if seen[k.Name] {
			t.Errorf("%s= stands twice", k.Name)
		}
		seen[k.Name] = true
		if k.Where&anyFile == 0 {
			t.Errorf("%s= may stand in no kind of file", k.Name)
		}
		ways := 0
		for _, is := range []bool{len(k.Export.As) > 0, k.Export.Lost != "", k.Export.Note != ""} {
			if is {
				ways++
			}
		}
		if ways != 1 {
			t.Errorf("%s= has %d exports, want one", k.Name, ways)
		}
		if strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s= has a full stop after its sentence", k.Name)
		}
		if k.parse != nil {
			if err := k.parse(new(Spec), k.Default); err != nil {
				t.Errorf("default of %s=: %v", k.Name, err)
			}
		}
	}
}

// What the proxy is told; Mode=native refuses nothing else.
func TestProxy(t *testing.T) {
	text := "[Container]\nImage=i\nPublishPort=8080:80\n[ScaleToZero]\n"
	for key, tt := range map[string]struct {
		value string
		want  wire.Config
	}{
		"AllowFrom":             {"192.0.2.0/24", wire.Config{AllowFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}},
		"WakeBy":                {"data", wire.Config{ByData: true}},
		"Probe":                 {"/a /b/*", wire.Config{Probes: []string{"/a", "/b/*"}}},
		"WaitingPage":           {"yes", wire.Config{WaitingPage: true}},
		"WaitingPageFile":       {"/p", wire.Config{WaitingPageFile: "/p"}},
		"IgnoreAgent":           {"*a b*", wire.Config{IgnoreAgents: []string{"*a b*"}}},
		"ReadyCheck":            {"http:/up", wire.Config{ReadyCheck: "/up"}},
		"MaxConnections":        {"7", wire.Config{MaxConnections: 7}},
		"ProxyProtocol":         {"v2", wire.Config{ProxyProtocol: 2}},
		"ClientAddress":         {"proxy", wire.Config{HideClient: true}},
		"ConnectionIdleTimeout": {"1min", wire.Config{ConnectionIdleTimeout: time.Minute}},
		"IdleTimeout":           {"7s", wire.Config{IdleTimeout: 7 * time.Second}},
		"StartTimeout":          {"7s", wire.Config{StartTimeout: 7 * time.Second}},
		"WakeOn":                {"Mon..Fri 08:00", wire.Config{Calendar: "zerolet-calendar/web"}},
		"StayAwake":             {"10h", wire.Config{StayAwake: 10 * time.Hour}},
		"Exclusive":             {"gpu", wire.Config{GivesWay: true}},
		"Sleep":                 {"freeze", wire.Config{Freeze: []string{"web.service"}, StopAfter: time.Hour, Reclaim: true}},
		"StopAfter":             {"2h\nSleep=freeze", wire.Config{Freeze: []string{"web.service"}, StopAfter: 2 * time.Hour, Reclaim: true}},
		"ReclaimMemory":         {"no\nSleep=freeze", wire.Config{Freeze: []string{"web.service"}, StopAfter: time.Hour}},
		"BusyCPU":               {"20%", wire.Config{BusyCPU: 20}},
		"Mode":                  {"native", wire.Config{Native: true}},
	} {
		f, _ := quadlet.Parse("/web.container", []byte(text+key+"="+tt.value+"\n"))
		s, _ := Read(f, quadlet.Search{Manager: quadlet.User, Getenv: func(string) string { return "" }})
		want := tt.want
		want.IdleTimeout = cmp.Or(want.IdleTimeout, 2*time.Minute)
		want.StartTimeout = cmp.Or(want.StartTimeout, 5*time.Minute)
		if got := s.Proxy(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s=%s: %+v, want %+v", key, tt.value, got, want)
		}
	}
	for _, k := range keys {
		if reflect.ValueOf(k.proxy).Pointer() == reflect.ValueOf(untold).Pointer() && !k.In(WithNative) {
			t.Errorf("%s= is nothing of the proxy's, and is refused without it", k.Name)
		}
	}
}

// What explain says of the keys, in the order in which it does.
func TestExplain(t *testing.T) {
	const defaults = "the first client starts web.service; each is held until the app accepts, at most 5min\n" +
		"the app sees each client's own address\nstops 2min after the last connection\n"
	for _, tt := range []struct{ lines, want string }{
		{"", defaults},
		{"[Container]\nNetwork=host", strings.Replace(defaults, "the app sees each client's own address\n", "", 1)},
		{"AllowFrom=192.0.2.0/24 ::1", "only 192.0.2.0/24 ::1/128 may connect; the others are reset, and wake nothing\n" + defaults},
		{"IdleTimeout=infinity\nAutoStart=no", strings.Replace(defaults, "stops 2min after the last connection\n",
			"never stops\nnothing starts the socket but [Install] or you\n", 1)},
		{"ReadyCheck=http:/up", "no client is let through before the app answers a GET of /up with 2xx or 3xx\n"},
		{"ReadyCheck=none", "clients are let through once the app accepts, even if it resets them\n"},
		{"MaxConnections=7", "7 connections are served at a time, the others wait\n"},
		{"ClientAddress=proxy", "the app sees the container's own address as that of each client\n"},
		{"ProxyProtocol=v2", "the app sees the container's own address, and is told each client's by the PROXY protocol\n" +
			"stops"},
		{"ProxyProtocol=v2\n[Container]\nNetwork=host", "the app is told each client's address by the PROXY protocol\nstops"},
		{"ConnectionIdleTimeout=1h", "a connection without a byte for 1h no longer counts\n"},
		{"WakeOn=Mon..Fri 08:00\nWakeOn=Sat 10:00\nStayAwake=10h", "the calendar wakes it: Mon..Fri 08:00; Sat 10:00\nonce awake, it stays so for 10h at least\n"},
		{"Sleep=freeze\nReclaimMemory=no", "sleeps 2min after the last connection\nit is frozen then, and thawed for the next client; " +
			"when nobody has come for 1h it is stopped\nits memory stays where it is while it is frozen\n"},
		{"Sleep=freeze\nStopAfter=infinity", "it is frozen then, and thawed for the next client; it is never stopped\n"},
		{"Exclusive=gpu", "it is awake only while no other service with Exclusive=gpu is; for a client of theirs it sleeps as soon as nobody is connected\n"},
		{"BusyCPU=20%", "while it uses more than 20% of a processor, it is not idle\n"},
		{"Mode=native", "the app takes the sockets from systemd; the proxy only watches\n"},
		{"Listen=%t/web.sock:80\nSocketGroup=www", "the unix sockets have mode 0666\nthe unix sockets are group www's\n" +
			"directories that have to be made for them have mode 0755\n"},
		{"[Container]\nPublishPort=\n[ScaleToZero]\nStartTimeout=9min", "a start of web.service may take 9min\n"},
	} {
		f, _ := quadlet.Parse("/web.container", []byte("[Container]\nImage=i\nPublishPort=8080:80\n[ScaleToZero]\n"+tt.lines+"\n"))
		s, _ := Read(f, quadlet.Search{Manager: quadlet.User, Getenv: func(string) string { return "" }})
		var b strings.Builder
		for _, k := range keys {
			if text := k.Explain(s); text != "" {
				b.WriteString(text + "\n")
			}
		}
		if got := b.String(); !strings.Contains(got, tt.want) {
			t.Errorf("%q: want %q in\n%s", tt.lines, tt.want, got)
		}
	}
}
