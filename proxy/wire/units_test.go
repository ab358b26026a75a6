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
