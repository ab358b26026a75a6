package main

import (
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// docs/status.md names every field.
func TestStatusDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	namesFields(t, string(doc), statusReport{}, serviceReport{}, wakeReport{})
}

func namesFields(t *testing.T, doc string, shapes ...any) {
	t.Helper()
	for _, shape := range shapes {
		for i := range reflect.TypeOf(shape).NumField() {
			name, _, _ := strings.Cut(reflect.TypeOf(shape).Field(i).Tag.Get("json"), ",")
			if !strings.Contains(doc, "`"+name+"`") {
				t.Errorf("the document does not describe %s", name)
			}
		}
	}
}

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
	for value, want := range map[string]listener{
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
		wake := record{time: at(4), took: time.Second}
		if got := coldStart(wake, test.starting, test.started); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 90 * time.Second: "1min", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %s, want %s", d, got, want)
		}
	}
}

// Text of others does not reach the terminal as it is.
func TestTableIsPrintable(t *testing.T) {
	s := service{name: "web", socket: systemd.Unit{"ActiveState": "failed", "LoadState": "loaded"}}
	var b strings.Builder
	c := call{machine: machine{clock: time.Now}}
	if err := c.table(&b, []serviceReport{s.report("a\x1b[2Jb")}); err != nil || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%v: %q", err, b.String())
	}
}

// What the proxy tells of its clients.
func TestConnections(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "any text": 0, wire.Status{}.Line("any text"): 0, wire.Status{Open: 3}.Line("any text"): 3,
	} {
		s := service{proxy: systemd.Unit{"ActiveState": "active", "StatusText": text}}
		if got := s.connections(); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
