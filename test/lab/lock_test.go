package lab

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// However many ask at once, one builds, and nobody sees half of it.
func TestCachedBuildsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tree")
	var built atomic.Int32
	build := func(tmp string) error {
		built.Add(1)
		return errors.Join(os.Mkdir(tmp, 0o755), os.WriteFile(filepath.Join(tmp, "file"), nil, 0o644))
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			f, err := cached(path, build)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if !exists(filepath.Join(path, "file")) {
				t.Error("cached returned before the build was done")
			}
		})
	}
	all.Wait()
	if n := built.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
}

// A build that fails leaves nothing and is tried again.
func TestCachedFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tree")
	broken := errors.New("broken")
	build := func(tmp string) error { return errors.Join(os.Mkdir(tmp, 0o755), broken) }
	if _, err := cached(path, build); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if exists(path) || exists(path+".tmp") {
		t.Error("the failed build is still there")
	}
	f, err := cached(path, func(tmp string) error { return os.Mkdir(tmp, 0o755) })
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// What somebody uses is not pruned; what nobody uses is.
func TestPrune(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tree")
	f, err := cached(path, func(tmp string) error { return os.Mkdir(tmp, 0o755) })
	if err != nil {
		t.Fatal(err)
	}
	if err := prune(path); err != nil || !exists(path) {
		t.Errorf("in use: %v, exists %t", err, exists(path))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := prune(path); err != nil || exists(path) {
		t.Errorf("out of use: %v, exists %t", err, exists(path))
	}
}
