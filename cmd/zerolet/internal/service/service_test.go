package service

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// The kernel's tables have addresses in words of the machine's byte order.
func TestKernelAddress(t *testing.T) {
	for text, want := range map[string]string{
		"0100007F:1F90":                         "127.0.0.1:8080",
		"00000000000000000000000000000000:0050": "[::]:80",
		"00000000000000000000000001000000:0035": "[::1]:53",
		"B80D0120000000000000000001000000:0035": "[2001:db8::1]:53",
	} {
		if got, ok := kernelAddress(text); !ok || got != netip.MustParseAddrPort(want) {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
	for _, text := range []string{"", "x:y", "01:0050", "0100007F"} {
		if got, ok := kernelAddress(text); ok {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestParseListener(t *testing.T) {
	for value, want := range map[string]Listener{
		"[::]:8080 (Stream)":        {"[::]:8080", "Stream"},
		"[fe80::1%2]:53 (Datagram)": {"[fe80::1]:53", "Datagram"},
		"/run/web.sock (Stream)":    {"/run/web.sock", "Stream"},
	} {
		if got, ok := parseListener(value); !ok || got != want {
			t.Errorf("%s is %v", value, got)
		}
	}
}

// What a wake took counts from the start of the container, if there was one.
func TestColdStart(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for name, test := range map[string]struct {
		starting, started time.Time
		want              time.Duration
	}{
		"started for it":           {at(1), at(2.9), 3 * time.Second},
		"up for long":              {at(-20), at(-19), time.Second},
		"never told":               {time.Time{}, time.Time{}, time.Second},
		"started again meanwhile":  {at(3.5), at(3.6), time.Second},
		"still starting, long ago": {at(-20), time.Time{}, time.Second},
	} {
		wake := Record{Time: at(4), Took: time.Second}
		if got := coldStart(wake, test.starting, test.started); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// What the proxy tells of its clients.
func TestConnections(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "any text": 0, wire.Status{}.Line("any text"): 0, wire.Status{Open: 3}.Line("any text"): 3,
	} {
		s := Service{Proxy: systemd.Unit{"ActiveState": "active", "StatusText": text}}
		if got := s.Connections(); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// The target that is up with what an app needs is not told as another one who needs it.
func TestOthers(t *testing.T) {
	s := &Service{Name: "db", Container: systemd.Unit{"RequiredBy": "app.service app-needs.target", "UpheldBy": "app.service", "WantedBy": "db-needs.target"}}
	if got, want := s.Others(), []string{"app.service"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
