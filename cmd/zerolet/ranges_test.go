package main

import (
	"fmt"
	"testing"
)

// Nothing is left out, and a range is what it says.
func TestRanges(t *testing.T) {
	var many []string
	for port := 1024; port < 1024+16385; port++ {
		many = append(many, fmt.Sprintf("[::]:%d", port))
	}
	for want, addresses := range map[string][]string{
		"":                                {},
		"[::]:1024-17408":                 many,
		"8080":                            {"8080"},
		"80 81":                           {"80", "81"},
		"80-82 84 /run/1 /run/2 /run/3":   {"80", "81", "82", "84", "/run/1", "/run/2", "/run/3"},
		"80-82/udp 83":                    {"80/udp", "81/udp", "82/udp", "83"},
		"[::]:1-3 (Datagram)":             {"[::]:1 (Datagram)", "[::]:2 (Datagram)", "[::]:3 (Datagram)"},
		"127.0.0.1:9-11 [::1]:12 [::]:13": {"127.0.0.1:9", "127.0.0.1:10", "127.0.0.1:11", "[::1]:12", "[::]:13"},
		"[fe80::1%eth0]:1-3":              {"[fe80::1%eth0]:1", "[fe80::1%eth0]:2", "[fe80::1%eth0]:3"},
		"3 2 1":                           {"3", "2", "1"},
	} {
		if got := ranges(addresses); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
