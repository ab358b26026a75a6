package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/test/lab"
)

// peer is one way to the app.
type peer struct {
	name    string
	machine *lab.Machine
	session *lab.Session
	host    string // an address, "" for loopback
	ports   int    // the app's ports begin there
	netns   string // of the clients: a file in the machine, "" for the machine's own
	units   []string
	process string // the only processes in the units that count, if not all
}

func (p *peer) addr(port int) string {
	return net.JoinHostPort(cmp.Or(p.host, "127.0.0.1"), strconv.Itoa(p.ports+port))
}

const (
	plain   = "plain port"
	proxyd  = "socket-proxyd"
	haproxy = "HAProxy"
	stream  = "nginx stream"
	zero    = "zerolet"
	heard   = "with Probe="
	native  = "zerolet native"
	limit   = "no way between"
)

// peerNames are the columns of the tables.
func peerNames() []string {
	return []string{plain, proxyd, haproxy, stream, zero, heard, native, limit}
}

// peers are the ways to the app of a session's plain container, and zerolet's
// to its own.
func peers(ctx context.Context, m *lab.Machine, s *lab.Session) ([]*peer, error) {
	out, err := s.Run(ctx, "podman", "inspect", "--format={{.State.Pid}}", "systemd-plain")
	if err != nil {
		return nil, err
	}
	inside := "/proc/" + strings.TrimSpace(out.Stdout) + "/ns/net"
	all := []*peer{
		{name: plain, ports: base(s) + plainPorts, units: []string{"plain.service"}, process: "pasta"},
		{name: proxyd, ports: base(s) + proxydPorts, units: []string{"bench-proxyd-80.service"}},
		{name: haproxy, ports: base(s) + haproxyPort, units: []string{"bench-haproxy.service"}},
		{name: stream, ports: base(s) + streamPorts, units: []string{"bench-stream.service"}},
		{name: zero, ports: base(s) + zeroPorts, units: []string{"zero-proxy.service"}},
		{name: heard, ports: base(s) + heardPorts, units: []string{"heard-proxy.service"}},
		{name: native, ports: base(s) + nativePorts, units: []string{"native-proxy.service"}},
		{name: limit, netns: inside},
	}
	onBridge, err := bridgePeers(ctx, s)
	if err != nil {
		return nil, err
	}
	all = append(all, onBridge...)
	for _, p := range all {
		p.machine, p.session = m, s
		err := until(ctx, s.Name+": "+p.name+" answers", 20*time.Millisecond, func() bool {
			cs, err := p.open(1)
			cs.close()
			return err == nil
		})
		if err != nil {
			return nil, errors.Join(err, p.journals(ctx))
		}
	}
	return all, nil
}

// journals are what the peer's units said.
func (p *peer) journals(ctx context.Context) (said error) {
	for _, unit := range p.units {
		text, err := p.session.Journal(ctx, unit)
		said = errors.Join(said, err, errors.New(text))
	}
	return said
}

// inNetwork calls f where the peer's clients are. f must make its sockets
// itself, not in goroutines of its own.
func (p *peer) inNetwork(f func() error) error {
	if p.netns == "" {
		return p.machine.Network(f)
	}
	ns, err := os.Open(p.machine.Host(p.netns))
	if err != nil {
		return err
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// command is a client's command line in the machine.
func (p *peer) command(args ...string) []string {
	if p.netns == "" {
		return args
	}
	return append([]string{"nsenter", "--net=" + p.netns}, args...)
}

// conns are open connections.
type conns []*net.TCPConn

func (cs conns) close() {
	for _, c := range cs {
		_ = c.Close()
	}
}

// dial opens n connections.
func (p *peer) dial(n, port int) (cs conns, err error) {
	err = p.inNetwork(func() error {
		for range n {
			c, err := net.DialTimeout("tcp", p.addr(port), clientPatience)
			if err != nil {
				return err
			}
			cs = append(cs, c.(*net.TCPConn))
			if err := c.SetDeadline(time.Now().Add(clientPatience)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		cs.close()
	}
	return cs, err
}

// open opens n connections and has a request answered on each of them.
func (p *peer) open(n int) (conns, error) {
	cs, err := p.dial(n, webPort)
	for _, c := range cs {
		if err == nil {
			_, err = request(c)
		}
	}
	if err != nil {
		cs.close()
	}
	return cs, err
}

// processes are what stands between client and app, as the host counts
// processes.
func (p *peer) processes(ctx context.Context) ([]int, error) {
	var pids []int
	for _, unit := range p.units {
		group, err := p.session.Show(ctx, unit, "ControlGroup")
		if err != nil {
			return nil, err
		}
		if group == "" {
			continue // it does not run
		}
		err = filepath.WalkDir(p.machine.Host("/sys/fs/cgroup"+group), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Base(path) != "cgroup.procs" {
				return err
			}
			text, err := os.ReadFile(path)
			for _, field := range strings.Fields(string(text)) {
				pid, _ := strconv.Atoi(field)
				if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); strings.HasPrefix(string(name), p.process) {
					pids = append(pids, pid)
				}
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return pids, nil
}
