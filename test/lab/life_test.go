package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const orphanEnv = "ZEROLET_LAB_TEST_ORPHAN"

// A machine ends with the process that started it, however that ends. Its layer goes with the next start.
func TestOrphan(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		m := New(t, Options{})
		fmt.Println(m.layer.id, m.Leader())
		io.Copy(io.Discard, os.Stdin) // until killed
		return
	}
	other := New(t, Options{}) // skips the test when not root
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOrphan$")
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	stdin, inErr := cmd.StdinPipe()
	stdout, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var id string
	var leader int
	if _, err := fmt.Fscan(bufio.NewReader(stdout), &id, &leader); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(other.tree.cache, "layers", id)
	group, err := findCgroup("zerolet-lab-" + id)
	if err != nil || !exists(dir) || !exists(group.path) {
		t.Fatalf("%s or %s is not there (%v)", dir, group.path, err)
	}

	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	other.Root().WaitFor(t, time.Minute, "the orphan's processes are gone", func() (bool, error) {
		return errors.Is(syscall.Kill(leader, 0), syscall.ESRCH), nil
	})
	New(t, Options{})
	if exists(dir) || exists(group.path) {
		t.Errorf("%s or %s is still there", dir, group.path)
	}
	if !exists(other.layer.dir) {
		t.Errorf("%s, which is in use, is gone", other.layer.dir)
	}
}

// Nothing of a machine is left on the host when it is closed.
func TestClose(t *testing.T) {
	if testing.Short() {
		t.Skip("it boots a machine")
	}
	before := hostState(t)
	m, err := Start(t.Context(), Options{})
	if errors.Is(err, ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.User().AppImage(t.Context()); err != nil {
		t.Error(err)
	}
	dir, group, legacy := m.layer.dir, m.run.group.path, m.run.group.legacy
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if exists(dir) || exists(dir+".lock") || exists(group) || legacy != "" && exists(legacy) {
		t.Errorf("%s, its lock, %s or %s is still there", dir, group, legacy)
	}
	if after := hostState(t); after != before {
		t.Errorf("the host's mounts were\n%s\nand are\n%s", before, after)
	}
}

func hostState(t *testing.T) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(mounts)
}
