// Package corpus gives tests the shared corpus of real Quadlet files. It does
// not read them.
package corpus

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Copy copies the corpus, and gives every .container file the drop-in that is
// made for it. The names are those of the .container files. Where there is no
// corpus the test is skipped; ZEROLET_CORPUS says where it is if it is not
// beside the repository.
func Copy(t testing.TB, dropin func(i int, text string) string) (dir string, names []string) {
	t.Helper()
	return copied(t, ".container", dropin)
}

// Pods is Copy for .pod files. Each has a container more, NAME-member.container.
func Pods(t testing.TB, dropin func(i int, text string) string) (dir string, names []string) {
	t.Helper()
	dir, names = copied(t, ".pod", dropin)
	for _, name := range names {
		text := "[Container]\nImage=localhost/member\nPod=" + name + "\n"
		if err := os.WriteFile(filepath.Join(dir, Member(name)), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, names
}

// Member is the name of the file of a pod's added container.
func Member(pod string) string { return strings.TrimSuffix(pod, ".pod") + "-member.container" }

func copied(t testing.TB, ext string, dropin func(i int, text string) string) (dir string, names []string) {
	t.Helper()
	dir = Plain(t)
	paths, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s in the corpus: %v", ext, err)
	}
	for i, path := range paths {
		names = append(names, filepath.Base(path))
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path+".d", "scale.conf"), []byte(dropin(i, string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, names
}

// Plain is Copy without drop-ins.
func Plain(t testing.TB) string {
	t.Helper()
	from := os.Getenv("ZEROLET_CORPUS")
	if from == "" {
		from = "../../../shared/corpus/quadlet"
	}
	if _, err := os.Stat(from); err != nil {
		t.Skipf("no corpus of real Quadlet files: %v", err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}
