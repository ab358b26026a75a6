package version

import "testing"

// What is stamped wins; without it there is an answer all the same.
func TestString(t *testing.T) {
	if got := String(); got == "" {
		t.Error("nothing")
	}
	stamped = "0.2.0+3.gabcdef0"
	t.Cleanup(func() { stamped = "" })
	if got := String(); got != stamped {
		t.Errorf("%q is not what was stamped", got)
	}
}
