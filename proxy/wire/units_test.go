package wire

import "testing"

// A name is of one unit, but for the container's, whose end every service has.
func TestUnits(t *testing.T) {
	for _, u := range Units() {
		if name, ok := u.Name(u.Of("a-b")); !ok || name != "a-b" {
			t.Errorf("%s: %q", u.Of("a-b"), name)
		}
		for _, other := range Units() {
			if _, ok := other.Name(u.Of("a")); ok && other != u && other != Container {
				t.Errorf("%s is one of %q, too", u.Of("a"), other)
			}
		}
	}
}

// The units of an instance are instances, and known by their names.
func TestUnitsOfInstance(t *testing.T) {
	for u, want := range map[Unit]string{
		Container: "my-site@82.service", Socket: "my-site-proxy@82.socket", Proxy: "my-site-proxy@82.service", Entry: "my-site-entry@82.service",
	} {
		if got := u.Of("my-site@82"); got != want {
			t.Errorf("%s: %s, want %s", u, got, want)
		}
		if name, ok := u.Name(want); !ok || name != "my-site@82" {
			t.Errorf("%s is of %s, %t", want, name, ok)
		}
	}
	for _, unit := range []string{"site@82-proxy.socket", "site-proxy@82.service", "site-proxy.socket@82"} {
		if name, ok := Socket.Name(unit); ok {
			t.Errorf("%s is a socket of %s", unit, name)
		}
	}
}
