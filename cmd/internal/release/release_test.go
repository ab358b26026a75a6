package release

import "testing"

// What the build has set wins; without it there is an answer all the same.
func TestVersion(t *testing.T) {
	if got := Version(); got == "" {
		t.Error("nothing")
	}
	version = "0.2.0+3.gabcdef0"
	t.Cleanup(func() { version = "" })
	if got := Version(); got != version {
		t.Errorf("%q is not what was set", got)
	}
}
