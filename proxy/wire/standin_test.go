package wire

import (
	"slices"
	"testing"
)

// A port is told with the network's own name: that of an interface is cut.
func TestStandInPorts(t *testing.T) {
	words := []string{"podman", "run", "--name=x", StandInNetwork("a-network-of-a-long-name", "a-network-of-a-") + ",alias=web", StandInNetwork("db", "db"), "--rootfs", "/x:O"}
	words = append(words, StandInArgs([]Address{StandInAddress("a-network-of-a-", 80), StandInAddress("db", 5432)})...)
	if got, want := StandInPorts(append(words, ";")), []string{"a-network-of-a-long-name:80", "db:5432"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
