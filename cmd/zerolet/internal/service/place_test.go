package service

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
)

// While there are places, nobody is asked. A start counts for a while, and what is
// not a start does not.
func TestPlaces(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir()) // no manager is there
	p := Places{Host{Manager: systemd.Manager{User: true}}, filepath.Join(t.TempDir(), "starts"), 2}
	line := func(name string, age time.Duration) string {
		return fmt.Sprintln(name, "0123", time.Now().Add(-age).UnixMicro())
	}
	text := line("old", placeLasts) + line("tomorrow", -time.Hour) + "half\n\n" + line("new", 0)
	if err := os.WriteFile(p.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	take := func(name string) error {
		return p.Take(t.Context(), name, "4567", func() { t.Errorf("%s waits", name) })
	}
	if err := take("second"); err != nil {
		t.Error(err)
	}
	if err := take("third"); err == nil {
		t.Error("a third one has a place, and nobody was asked")
	}
	file, err := os.Open(p.File)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	starts, err := readStarts(file)
	if err != nil || len(starts) != 2 || starts[0].Name != "new" || starts[1].Name != "second" || starts[1].ID != "4567" {
		t.Errorf("%+v, %v", starts, err)
	}
}
