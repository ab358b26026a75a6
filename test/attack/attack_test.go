// Package attack has one case for each way in which somebody was once trusted
// for having passed through zerolet, or may want to be. Every case attacks a
// booted machine, as root and as a rootless user, and is bounded. A new hole is
// one more test function. `make attack` runs them all, with what each has
// tried; docs/internals/security.md says who attacks whom.
package attack

import (
	"flag"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) {
	// They wait more than they compute.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	harness.Main(m)
}

// each runs an attack on both managers of a machine of its own, beside the others.
func each(t *testing.T, attack func(t *testing.T, h *harness.Host)) {
	t.Helper()
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), attack)
}
