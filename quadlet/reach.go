package quadlet

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Root may be told to look at the files of a user, who may put a link to
// /etc/shadow among them. What a user has made is read with the rights of that
// user: no name, link or mount leads further than their own would.

// maxLinks bounds a path that goes round in circles, as MAXSYMLINKS of the kernel.
const maxLinks = 40

// nogroup is a group that nobody is in by their account.
const nogroup = 65534

// readerOf is who decides where a path leads besides root: the owner of the
// first directory or link on the way that is not root's, or 0. What comes before
// that one no other can change. Who is not root reads as nobody else: 0, too.
func readerOf(path string) int {
	if os.Geteuid() != 0 {
		return 0
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return 0
	}
	at, rest := "/", strings.TrimPrefix(path, "/")
	for links := 0; rest != "" && links <= maxLinks; {
		name, after, _ := strings.Cut(rest, "/")
		next := filepath.Join(at, name) // of a ".." too: there are no links in at
		var st syscall.Stat_t
		if syscall.Lstat(next, &st) != nil {
			return 0
		}
		if st.Uid != 0 {
			return int(st.Uid)
		}
		at, rest = next, after
		if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			continue
		}
		links++
		target, err := os.Readlink(next)
		if err != nil {
			return 0
		}
		if at = filepath.Dir(next); filepath.IsAbs(target) {
			at = "/"
		}
		rest = strings.Trim(target+"/"+after, "/")
	}
	return 0
}

// ofRoot reports whether what is in a directory of root's is root's as well, and
// no link.
func ofRoot(path string) bool {
	var st syscall.Stat_t
	return syscall.Lstat(path, &st) == nil && st.Uid == 0 && st.Mode&syscall.S_IFMT != syscall.S_IFLNK
}

// ReadAs is the content of a file, read with a user's rights.
func ReadAs(uid int, path string) (data []byte, err error) {
	err = as(uid, func() (err error) {
		data, err = readRegular(path)
		return err
	})
	return data, err
}

// readDir is os.ReadDir with a user's rights.
func readDir(uid int, path string) (entries []os.DirEntry, err error) {
	err = as(uid, func() (err error) {
		entries, err = os.ReadDir(path)
		return err
	})
	return entries, err
}

// RealDir is the path of a directory without links. A user's link to what is not
// that user's is not followed for root: who decides about a path has to be seen
// from the path.
func RealDir(path string) (string, error) {
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	if uid := readerOf(path); uid != 0 && readerOf(dir) != uid {
		return "", fmt.Errorf("%s: uid %d has it lead to %s: root follows no user's link to what is not that user's", path, uid, dir)
	}
	return dir, nil
}

// ReadNamed is the content of a file that another file names, read with the
// rights of who may have written that one.
func ReadNamed(by, path string) ([]byte, error) { return ReadAs(readerOf(filepath.Dir(by)), path) }

// ReaderOf is the user, not root, who decides where a path leads: 0 if there is none,
// or it is not root who asks.
func ReaderOf(path string) int { return readerOf(path) }

// hintOf says whose rights were not enough.
func hintOf(uid int) string {
	if uid == 0 {
		return ""
	}
	return fmt.Sprintf("root reads what uid %d has made with the rights of that user only", uid)
}

// as runs f with the rights of a user over files, 0 being whoever runs. The
// rights are the thread's alone (setfsuid(2)): no process of that user's comes
// into being. The thread is not used again.
func as(uid int, f func() error) error {
	if uid == 0 {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
				return os.NewSyscallError("setgroups", e)
			}
			_ = unix.Setfsgid(nogroup)
			_ = unix.Setfsuid(uid)
			if is, _ := unix.SetfsuidRetUid(-1); is != uid { // the only way to know (setfsuid(2))
				return fmt.Errorf("root cannot read it with the rights of its owner, uid %d", uid)
			}
			return f()
		}()
	}()
	return <-done
}
