package reach

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// namespaceApp brings loopback up, listens and answers each connection with
// its own pid, and whom it takes its client for, until its stdin ends. On
// udp:ADDRESS it answers each datagram so.
func namespaceApp(addrs string) int {
	err := loopbackUp()
	for addr := range strings.SplitSeq(addrs, ",") {
		if err == nil {
			err = serveInNamespace(addr)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("listening")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

func serveInNamespace(addr string) error {
	family := "" // both, for a wildcard (net.Listen)
	if strings.Contains(addr, "0.0.0.0:") {
		family = "4"
	}
	if addr, ok := strings.CutPrefix(addr, "udp:"); ok {
		l, err := net.ListenPacket("udp"+family, addr)
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 1<<16)
			for {
				_, from, err := l.ReadFrom(buf)
				if err != nil {
					return
				}
				l.WriteTo(fmt.Appendf(nil, "%d %s\n", os.Getpid(), from), from)
			}
		}()
		return nil
	}
	l, err := net.Listen("tcp"+family, addr)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				fmt.Fprintf(c, "%d %s\n", os.Getpid(), c.RemoteAddr())
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// unprivileged is the user that runs containers in the tests of root. It
// needs no name.
const unprivileged = 54321

// box is a place for containers that are none of Podman's: an unprivileged
// user, a directory, and as root a real cgroup.
type box struct {
	t       *testing.T
	dir     string
	self    string // the test binary, where that user can run it
	cgroups string // empty if no cgroup can be made
}

func newBox(t *testing.T) *box {
	t.Helper()
	for _, program := range []string{"unshare", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	b := &box{t: t, dir: proxytest.Must(os.MkdirTemp("", "zerolet-box-"))(t)}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	os.Chmod(b.dir, 0o755)
	b.self = filepath.Join(b.dir, "app")
	if err := os.WriteFile(b.self, proxytest.Must(os.ReadFile("/proc/self/exe"))(t), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := b.user(exec.Command("unshare", "-Urn", "true")).CombinedOutput(); err != nil {
		t.Skipf("no user namespaces for users: %s", out)
	}
	b.cgroups = makeCgroup(t)
	return b
}

// user makes a command run as the unprivileged user, if the tests are root.
func (b *box) user(cmd *exec.Cmd) *exec.Cmd {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
	}
	cmd.Dir = "/"
	return cmd
}

// makeCgroup makes a cgroup of version 2 named web.service, in one of the
// test's own.
func makeCgroup(t *testing.T) string {
	for line := range strings.Lines(string(proxytest.Must(os.ReadFile("/proc/self/mounts"))(t))) {
		f := strings.Fields(line)
		if f[2] != "cgroup2" {
			continue
		}
		top := filepath.Join(f[1], fmt.Sprintf("zerolet-test-%d-%d.slice", os.Getpid(), time.Now().UnixNano()))
		if os.Mkdir(top, 0o755) != nil || os.Mkdir(filepath.Join(top, "web.service"), 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			proxytest.Eventually(t, "the cgroup is empty", func() bool { return os.Remove(filepath.Join(top, "web.service")) == nil })
			os.Remove(top)
		})
		return top
	}
	return ""
}

func (b *box) pidfile() string { return filepath.Join(b.dir, "pid") }

// contained is a process in namespaces of its own, with an app in it.
type contained struct {
	*exec.Cmd
	stdin io.Closer
}

// run starts one with unshare(1), in the cgroup, and waits until it listens.
func (b *box) run(addr, unit string, how ...string) *contained {
	b.t.Helper()
	c := b.launch(b.user(exec.Command("unshare", append(how, b.self)...)), addr)
	if b.cgroups != "" && unit != "" {
		err := os.WriteFile(filepath.Join(b.cgroups, unit, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0)
		if err != nil {
			b.t.Fatal(err)
		}
	}
	return c
}

func (b *box) launch(cmd *exec.Cmd, addr string) *contained {
	b.t.Helper()
	cmd.Env = append(os.Environ(), envApp+"="+addr)
	cmd.Stderr = os.Stderr
	stdin, stdout := proxytest.Must(cmd.StdinPipe())(b.t), proxytest.Must(cmd.StdoutPipe())(b.t)
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	c := &contained{cmd, stdin}
	b.t.Cleanup(c.kill)
	proxytest.Expect(b.t, stdout, "listening\n")
	return c
}

func (c *contained) kill() {
	c.Process.Kill()
	c.Wait()
}

func (b *box) writePID(pid int) {
	b.t.Helper()
	if err := os.WriteFile(b.pidfile(), []byte(strconv.Itoa(pid)+"\n"), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// start runs the real program as the user, without new privileges, as the unit
// does.
func (b *box) start(front *net.TCPListener, cfg wire.Config) *proxytest.Process {
	b.t.Helper()
	if b.cgroups == "" {
		b.t.Skip("needs a cgroup, so root")
	}
	wrap := []string{"setpriv", "--no-new-privs"}
	if os.Getuid() == 0 {
		wrap = append(wrap, fmt.Sprintf("--reuid=%d", unprivileged), fmt.Sprintf("--regid=%d", unprivileged), "--clear-groups")
	}
	return proxytest.Start(b.t, wrap, proxytest.FilesOf(b.t, front), nil, cfg.Args()...)
}

func (b *box) config(front net.Listener) wire.Config {
	cfg := proxytest.Config(front, proxytest.ParseAddress(b.t, "127.0.0.1:80"))
	cfg.PIDFile = b.pidfile()
	return cfg
}

// expectPID reads which process answers.
func expectPID(t *testing.T, c net.Conn, want *contained) {
	t.Helper()
	expectPeer(t, c, want)
}

// expectPeer also returns whom that takes its client for. That is never one on
// loopback.
func expectPeer(t *testing.T, c net.Conn, want *contained) netip.AddrPort {
	t.Helper()
	var pid int
	var text string
	if _, err := fmt.Fscanln(c, &pid, &text); err != nil {
		t.Fatal(err)
	}
	if pid != want.Process.Pid {
		t.Fatalf("%d answers, want %d", pid, want.Process.Pid)
	}
	peer := proxytest.Must(netip.ParseAddrPort(text))(t)
	if peer.Addr().Unmap().IsLoopback() {
		t.Errorf("the app takes its client for %s", peer)
	}
	return peer
}

// The app is reached wherever it listens on loopback, in a user namespace, in
// one inside another, and in a network namespace of the same user namespace.
func TestInsideNamespace(t *testing.T) {
	b := newBox(t)
	for name, test := range map[string]struct {
		addr string
		how  []string
	}{
		"IPv4":          {"127.0.0.1:80", []string{"-Urn"}},
		"IPv6 only":     {"[::1]:80", []string{"-Urn"}},
		"mapped to me":  {"127.0.0.1:8080", []string{"-Uc", "unshare", "-Urn"}},
		"nested":        {"127.0.0.1:80", []string{"-Ur", "unshare", "-Urn"}},
		"nested thrice": {"127.0.0.1:80", []string{"-Ur", "unshare", "-Ur", "unshare", "-Urn"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := *b
			b.t = t
			front := proxytest.ListenTCP(t, "127.0.0.1:0")
			cfg := b.config(front)
			cfg.DrainTimeout = time.Millisecond
			_, port, _ := net.SplitHostPort(test.addr)
			cfg.Forwards[0].Target = proxytest.ParseAddress(t, "127.0.0.1:"+port)
			os.Remove(b.pidfile())
			p := b.start(front, cfg)
			held := proxytest.Connect(t, front.Addr().String())
			c := b.run(test.addr, "web.service", test.how...)
			b.writePID(c.Process.Pid)
			expectPID(t, held, c)
			for range 3 * batch {
				expectPID(t, proxytest.Connect(t, front.Addr().String()), c)
			}
			p.Process.Signal(syscall.SIGTERM)
			if p.Status(t) != 0 || proxytest.Lines(p.Log.String()) != 2 {
				t.Errorf("exit status %d: %s", p.Status(t), p.Log)
			}
		})
	}
}

// A network namespace in the proxy's own user namespace is entered too.
func TestInsideNamespaceOfRoot(t *testing.T) {
	b := newBox(t)
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	c := b.launch(exec.Command("unshare", "-n", b.self), "127.0.0.1:80")
	b.writePID(c.Process.Pid)
	n := b.inside("0::/web.service/x\n")
	var s *sock.Socket
	proxytest.Eventually(t, "the app listens", func() (ok bool) {
		var err error
		s, err = Dial(n, Targets(b.target(), true), netip.MustParseAddrPort("127.0.0.1:40000"))
		return err == nil
	})
	defer s.Close()
	file, _ := s.Poller()
	expectPID(t, proxytest.Must(net.FileConn(file))(t), c)
}

// target is where the app listens.
func (b *box) target() wire.Address { return proxytest.ParseAddress(b.t, "127.0.0.1:80") }

// inside is the way into the container, which finds every process in a cgroup.
func (b *box) inside(cgroup string) containerNamespace {
	b.t.Helper()
	way := &nsenter{whereabouts{pidfile: b.pidfile(), unit: "web.service", cgroup: procCgroup}}
	way.cgroup = cgroupFile(b.t, cgroup)
	n := newContainerNamespace(way, wire.Config{}, func(string) {})
	b.t.Cleanup(n.Close)
	return n
}

func cgroupFile(t *testing.T, line string) func(int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cgroup")
	if err := os.WriteFile(file, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	return func(int) string { return file }
}

// A pid from before, which now is another process, is not trusted. The
// container's next pid is.
func TestRecycledPID(t *testing.T) {
	b := newBox(t)
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	other := b.run("127.0.0.1:80", "", "-Urn")
	b.writePID(other.Process.Pid)
	p := b.start(front, b.config(front))
	held := proxytest.Connect(t, front.Addr().String())
	proxytest.Eventually(t, "the other process is found out", func() bool { return strings.Contains(p.Log.String(), "not in web.service") })
	c := b.run("127.0.0.1:80", "web.service", "-Urn")
	b.writePID(c.Process.Pid)
	expectPID(t, held, c)
}

// A new container is found though the old one's namespace still refuses.
func TestContainerRestarts(t *testing.T) {
	b := newBox(t)
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	b.start(front, b.config(front))
	for range 3 {
		held := proxytest.Connect(t, front.Addr().String())
		c := b.run("127.0.0.1:80", "web.service", "-Urn")
		b.writePID(c.Process.Pid)
		expectPID(t, held, c)
		c.kill()
		expectEndOrReset(t, held)
	}
}

func expectEndOrReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, _ := io.Copy(io.Discard, c); n > 0 {
		t.Errorf("%d more bytes", n)
	}
}

// The helper ends with the proxy when that is killed, and before it when it
// ends by itself, even if it has to be forced.
func TestHelperEndsWithProxy(t *testing.T) {
	b := newBox(t)
	c := b.run("127.0.0.1:80", "web.service", "-Urn")
	b.writePID(c.Process.Pid)
	helped := func(t *testing.T) (p *proxytest.Process, helper int) {
		b := *b
		b.t = t
		front := proxytest.ListenTCP(t, "127.0.0.1:0")
		p = b.start(front, b.config(front))
		conn := proxytest.Connect(t, front.Addr().String())
		expectPID(t, conn, c)
		children := childrenOf(t, p.Process.Pid)
		if len(children) != 1 {
			t.Fatalf("children %v, want the helper", children)
		}
		conn.Close()
		return p, proxytest.Must(strconv.Atoi(children[0]))(t)
	}
	t.Run("killed", func(t *testing.T) {
		p, helper := helped(t)
		p.Process.Kill()
		proxytest.Eventually(t, "the helper has ended", func() bool { return !isRunning(helper) })
	})
	t.Run("stuck helper", func(t *testing.T) {
		p, helper := helped(t)
		syscall.Kill(helper, syscall.SIGSTOP)
		defer syscall.Kill(helper, syscall.SIGCONT)
		p.Process.Signal(syscall.SIGTERM)
		if p.Status(t) != 0 || isRunning(helper) {
			t.Errorf("exit status %d, helper running %v: %s", p.Status(t), isRunning(helper), p.Log)
		}
	})
}

// childrenOf finds children of all threads.
func childrenOf(t *testing.T, pid int) (children []string) {
	tasks := proxytest.Must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)))(t)
	for _, task := range tasks {
		children = append(children, strings.Fields(string(proxytest.Must(os.ReadFile(task))(t)))...)
	}
	return children
}

func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A helper that dies is replaced.
func TestHelperDies(t *testing.T) {
	b := newBox(t)
	c := b.run("127.0.0.1:80", "web.service", "-Urn")
	b.writePID(c.Process.Pid)
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	p := b.start(front, b.config(front))
	for range 3 {
		for range batch + 1 {
			expectPID(t, proxytest.Connect(t, front.Addr().String()), c)
		}
		children := childrenOf(t, p.Process.Pid)
		if len(children) != 1 {
			t.Fatalf("children %v, want the helper", children)
		}
		syscall.Kill(proxytest.Must(strconv.Atoi(children[0]))(t), syscall.SIGKILL)
	}
}

// A container that is in the host's network is not dialled: who listens on the
// host's loopback is somebody else.
func TestHostNetworkRefused(t *testing.T) {
	b := &box{t: t, dir: t.TempDir()}
	b.writePID(os.Getpid())
	_, err := Dial(b.inside("0::/web.service\n"), Targets(b.target(), true), netip.AddrPort{})
	if !errors.Is(err, errHostNetwork) || IsStarting(err) {
		t.Errorf("%v, want %v", err, errHostNetwork)
	}
}

// A namespace that cannot be entered is said to be so, and tried again no more
// than ten times a second.
func TestNamespaceRefused(t *testing.T) {
	for name, says := range map[string]string{"no nsenter": "executable file not found", "nsenter fails": "not permitted"} {
		t.Run(name, func(t *testing.T) {
			b := &box{t: t, dir: t.TempDir()}
			stranger := exec.Command("unshare", "-Urn", "cat")
			stdin := proxytest.Must(stranger.StdinPipe())(t)
			if err := stranger.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { stdin.Close(); stranger.Wait() }()
			proxytest.Eventually(t, "it has a network of its own", func() bool {
				theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", stranger.Process.Pid))
				ours, _ := os.Readlink("/proc/self/ns/net")
				return theirs != ours
			})
			b.writePID(stranger.Process.Pid)
			t.Setenv("PATH", b.dir)
			calls := filepath.Join(b.dir, "calls")
			if name == "nsenter fails" {
				script := "#!/bin/sh\necho >>" + calls + "\necho not permitted >&2\nexit 1\n"
				if err := os.WriteFile(filepath.Join(b.dir, "nsenter"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			n := b.inside("0::/web.service\n")
			began := time.Now()
			try := func() error {
				_, err := Dial(n, Targets(b.target(), true), netip.AddrPort{})
				return err
			}
			if err := try(); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%v, want %s", err, says)
			}
			if name == "no nsenter" {
				proxytest.Eventually(t, "it pauses", func() bool {
					_ = try() // the pause may be over by now
					n.mu.Lock()
					defer n.mu.Unlock()
					return time.Until(n.notUntil) > helperPause/2
				})
			} else {
				proxytest.Eventually(t, "it is tried again", func() bool {
					_ = try()
					text, _ := os.ReadFile(calls)
					return len(text) >= 4
				})
				if took := time.Since(began); took < 3*helperPause {
					t.Errorf("4 tries in %s", took)
				}
			}
		})
	}
}

func TestCheckCgroup(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cgroup")
	for text, want := range map[string]string{
		"9:name=systemd:/other\n0::/system.slice/web.service\n": "",
		"0::/system.slice/web.service/libpod-payload-7\n":       "",
		// Any user may have a unit of that name.
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-7\n": "not in web.service",
		"0::/system.slice/web.service.d/x\n":     "not in web.service",
		"0::/system.slice/my-web.service\n":      "not in web.service",
		"0::/\n":                                 "not in web.service",
		"4:memory:/system.slice/web.service\n":   "no cgroup of version 2",
		"":                                       "no cgroup of version 2",
		"9:x:/0::/web.service\n0::/user.slice\n": "not in web.service",
		"0::/web.service (deleted)\n":            "not in web.service",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := checkCgroup(file, "web.service")
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A pidfile that somebody has put in place of Podman's leads nowhere and does
// not block.
func TestHostilePIDFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	for name, put := range map[string]func() error{
		"link":      func() error { return os.Symlink("/proc/self/loginuid", path) },
		"fifo":      func() error { return unix.Mkfifo(path, 0o600) },
		"directory": func() error { return os.Mkdir(path, 0o700) },
		"large":     func() error { return os.WriteFile(path, bytes.Repeat([]byte("1"), 1<<20), 0o600) },
		"negative":  func() error { return os.WriteFile(path, []byte("-1"), 0o600) },
		"empty":     func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
		if pid, err := readPID(path); err == nil {
			t.Errorf("%s: pid %d", name, pid)
		}
		os.Remove(path)
	}
}
