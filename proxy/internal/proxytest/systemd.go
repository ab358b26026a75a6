package proxytest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is what systemd is to a service: a socket for notifications.
type Manager struct {
	*net.UnixConn
	Path string
}

// NewManager listens for them.
func NewManager(t testing.TB) *Manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn := Must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"}))(t)
	t.Cleanup(func() { conn.Close() })
	return &Manager{conn, path}
}

// Env tells a program where.
func (m *Manager) Env() []string { return []string{"NOTIFY_SOCKET=" + m.Path} }

// Told waits for a message.
func (m *Manager) Told(t testing.TB) string {
	t.Helper()
	buf := make([]byte, 4096)
	m.SetReadDeadline(time.Now().Add(Patience))
	n, err := m.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// Waiting reports what systemd asks: is there a connection in the backlog?
func Waiting(t testing.TB, l *net.TCPListener) (yes bool) {
	raw := Must(l.SyscallConn())(t)
	raw.Control(func(fd uintptr) {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		yes = n > 0
	})
	return yes
}

// OneRequest asks an echo once.
func OneRequest(t *testing.T, addr, line string) {
	c, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(Patience))
	io.WriteString(c, line)
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != line {
		t.Errorf("%q was answered with %q, %v", line, got, err)
	}
}

// OwnCgroup is the directory of the control group that the test itself is in.
func OwnCgroup(t testing.TB) string {
	t.Helper()
	own := ""
	for line := range strings.Lines(string(Must(os.ReadFile("/proc/self/cgroup"))(t))) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			own = strings.TrimSpace(path)
		}
	}
	for line := range strings.Lines(string(Must(os.ReadFile("/proc/self/mounts"))(t))) {
		if f := strings.Fields(line); f[2] == "cgroup2" && own != "" {
			return filepath.Join(f[1], own)
		}
	}
	t.Skip("no cgroup of version 2")
	return ""
}

// ListenUnix listens at a path.
func ListenUnix(t testing.TB) *net.UnixListener {
	t.Helper()
	l := Must(net.Listen("unix", filepath.Join(t.TempDir(), "s")))(t).(*net.UnixListener)
	t.Cleanup(func() { l.Close() })
	return l
}
