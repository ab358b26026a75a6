package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// ownCgroup is the control group that the test itself is in, as if it were the
// container's.
func ownCgroup(t testing.TB) *Cgroup {
	t.Helper()
	return &Cgroup{units: []string{"web.service"}, dirs: []string{proxytest.OwnCgroup(t)}}
}

// files reaches sockets of the test itself.
func files(t testing.TB, volumes ...string) *Files {
	return NewFiles(ownCgroup(t), volumes)
}

// No link is followed below the directory that is mounted, and none at all where
// that is not known. The administrator's own on the way to it are.
func TestLinksBelowVolume(t *testing.T) {
	dir := proxytest.Must(filepath.EvalSymlinks(t.TempDir()))(t)
	volume, link := filepath.Join(dir, "volume"), filepath.Join(dir, "link")
	proxytest.Must(0, os.MkdirAll(filepath.Join(volume, "deep"), 0o755))(t)
	l := proxytest.Must(net.Listen("unix", filepath.Join(volume, "deep", "app")))(t)
	defer l.Close()
	for from, to := range map[string]string{
		link: volume, filepath.Join(volume, "soft"): "deep/app", filepath.Join(volume, "sub"): "deep", filepath.Join(volume, "up"): "..",
	} {
		proxytest.Must(0, os.Symlink(to, from))(t)
	}
	proxytest.Must(0, os.WriteFile(filepath.Join(volume, "file"), nil, 0o600))(t)
	for _, c := range []struct {
		volume, path string
		want         error
	}{
		{volume, volume + "/deep/app", nil},
		{link, link + "/deep/app", nil},
		{link + "/", link + "/deep/app", nil},
		{"", volume + "/deep/app", nil},
		{"/", volume + "/deep/app", nil},
		{"", link + "/deep/app", errLink},
		{"/", link + "/deep/app", errLink},
		{volume, link + "/deep/app", errLink},
		{link + "/deep", link + "/soft", errLink},
		{volume, volume + "/soft", errLink},
		{volume, volume + "/sub/app", errLink},
		{volume, volume + "/up/volume/deep/app", errLink},
		{volume, volume + "/../volume/deep/app", nil},
		{volume, volume + "/file", errNoSocket},
		{volume, volume + "/deep", errNoSocket},
		{volume, volume + "/none", fs.ErrNotExist},
		{volume, volume + "x/app", fs.ErrNotExist},
	} {
		volumes := []string{filepath.Join(c.volume, "deep"), c.volume} // the outermost counts
		if c.volume == "" {
			volumes = nil
		}
		backend, err := DialOne(files(t, volumes...), wire.Address{Network: wire.Unix, Path: c.path}, netip.AddrPort{})
		if !errors.Is(err, c.want) {
			t.Errorf("%q, %s: %v, want %v", c.volume, c.path, err, c.want)
		}
		if err == nil {
			backend.Close()
		}
	}
}

// A process that is not in the container's unit answers. It is connected to once,
// and again when the file is another.
func TestStrangerOnSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	l := proxytest.Must(net.Listen("unix", path))(t).(*net.UnixListener)
	defer l.Close()
	s := files(t)
	s.cgroup.dirs[0] = t.TempDir() // where the test is not
	addr := wire.Address{Network: wire.Unix, Path: path}
	for range 3 {
		_, err := DialOne(s, addr, netip.AddrPort{})
		if want := fmt.Sprintf("pid %d of uid %d listens there", os.Getpid(), os.Getuid()); !errors.Is(err, errStranger) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if n := backlog(t, l); n != 1 {
		t.Errorf("connected to %d times, want once", n)
	}
	l.Close()
	l = proxytest.Must(net.Listen("unix", path))(t).(*net.UnixListener)
	defer l.Close()
	s.cgroup = ownCgroup(t)
	backend := proxytest.Must(DialOne(s, addr, netip.AddrPort{}))(t)
	backend.Close()
}

// backlog takes the connections that wait.
func backlog(t *testing.T, l *net.UnixListener) (n int) {
	t.Helper()
	file := proxytest.Must(l.File())(t)
	defer file.Close()
	for sock.Ready(int(file.Fd()), unix.POLLIN) {
		c := proxytest.Must(l.Accept())(t)
		c.Close()
		n++
	}
	return n
}

// The process that began to listen is gone, and another has its socket: nobody
// knows whose that is.
func TestOrphanedSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	listener := proxytest.Must(unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))(t)
	file := os.NewFile(uintptr(listener), "listener")
	defer file.Close()
	proxytest.Must(0, unix.Bind(listener, &unix.SockaddrUnix{Name: path}))(t)
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), envListen+"=3")
	child.ExtraFiles = []*os.File{file}
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := DialOne(files(t), wire.Address{Network: wire.Unix, Path: path}, netip.AddrPort{}); !errors.Is(err, errOrphan) {
		t.Errorf("%v, want %v", err, errOrphan)
	}
}

// No source that looks who answers has one for who is in a hurry.
func TestPromptLooksToo(t *testing.T) {
	for _, source := range []Source{files(t), onHost(t, true)} {
		if p := Prompt(source); p != nil {
			t.Errorf("%T has %T", source, p)
		}
	}
}
