package quadlet

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// What a user has made root reads with that user's rights only, and so what is
// below it or where a link in it leads.
func TestReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root reads for others")
	}
	const uid = 4711
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil {
		t.Fatal(err)
	}
	file := func(name string, owner int) string {
		path := filepath.Join(dir, name)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o711), os.WriteFile(path, []byte("[Unit]\n"), 0o600), os.Chown(path, owner, owner))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret, home := file("root/x.container", 0), filepath.Join(dir, "home")
	own := file("home/own.container", uid)
	link := func(target, name string, owner int) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Symlink(target, path), os.Lchown(path, owner, owner)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	theirs := link("../root", "home/dir", uid)
	if err := os.Chown(home, uid, uid); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		secret: 0, own: uid, theirs + "/x.container": uid,
		link("home", "roots-link", 0) + "/own.container": uid,
		link("root/", "users-link", uid):                 uid,
		link("loop", "loop", 0):                          0,
		dir + "/none/x":                                  0,
	} {
		if got := readerOf(path); got != want {
			t.Errorf("%s is read as %d, want %d", path, got, want)
		}
	}
	for path, may := range map[string]bool{
		own: true, link(own, "home/own2.container", uid): true, link(secret, "home/x.container", uid): false,
		secret: true, link(own, "root/own.container", 0): true,
	} {
		if _, ds := ReadFile(path); ds.HasErrors() == may {
			t.Errorf("%s: %v", path, ds)
		}
		data, err := ReadNamed(own, path)
		if may := may && path != secret; (err == nil) != may || err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("named by a user's file, %s: %q, %v", path, data, err)
		}
	}
	if path, err := RealDir(theirs); err == nil {
		t.Errorf("a user's link is followed to %s", path)
	}
	if os.Geteuid() != 0 {
		t.Error("the rights are not only the thread's")
	}
}
