package proxy

import (
	"os"
	"testing"
)

// What was passed to another process, which has this one for a child, is not
// ours, and nobody's after us.
func TestPassed(t *testing.T) {
	names := []string{"LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES"}
	for _, name := range names {
		t.Setenv(name, "1")
	}
	if files := Passed(); files != nil {
		t.Errorf("%d files", len(files))
	}
	for _, name := range names {
		if value, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%s is left", name, value)
		}
	}
}
