package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// run is one run of a machine, from boot to off.
type run struct {
	leader int // the machine's systemd, as the host counts processes
	group  *cgroup
	guard  *guard
	exited chan struct{} // closed when systemd-nspawn is gone
}

// bootScript assembles the machine's root in a mount namespace of its own, in the layer's directory: the
// mounts end with the machine. Paths are relative because overlayfs's options cannot hold every character.
const bootScript = `set -eu
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
mount --bind "$1" lower
mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work root
mount --bind containers root/var/lib/containers
mount --bind user-containers root/home/user/.local/share/containers
shift
exec systemd-nspawn "$@"
`

// startRun boots the machine of a layer and returns when its systemd says it is up.
func startRun(ctx context.Context, root string, l *layer, bind []string) (*run, error) {
	group, err := l.cgroup()
	if err != nil {
		return nil, err
	}
	// Abstract, because the path of a layer can be longer than a socket's may be (unix(7)).
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "@zerolet-lab-" + l.id, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	closeNotify := func() { _ = notify.Close() }
	defer closeNotify()
	console := filepath.Join(l.dir, "console.log")
	r := &run{group: group, exited: make(chan struct{})}
	if err := r.start(root, l, bind, console); err != nil {
		return nil, err
	}
	go func() {
		<-r.exited
		closeNotify() // waitReady waits in vain
	}()
	if r.leader, err = waitReady(ctx, notify); err != nil {
		text, _ := os.ReadFile(console)
		return nil, errors.Join(fmt.Errorf("%w\n%s", err, tail(string(text), 30)), r.kill())
	}
	return r, nil
}

// start runs systemd-nspawn in the machine's group, under guard.
func (r *run) start(root string, l *layer, bind []string, console string) error {
	log, err := os.Create(console)
	if err != nil {
		return err
	}
	defer log.Close()
	group, err := r.group.open()
	if err != nil {
		return err
	}
	defer group.Close()
	if r.guard, err = startGuard(r.group); err != nil {
		return err
	}
	args := append([]string{"-c", bootScript, "sh", root}, nspawnArgs(l, bind)...)
	cmd := exec.Command("sh", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = l.dir, log, log
	// Everything of the kernel's interface is the machine's (no read-only /proc/sys), and its cgroups are v2
	// whatever the host's are (systemd's ENVIRONMENT.md).
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
		"NOTIFY_SOCKET=@zerolet-lab-"+l.id)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNS,
		Setpgid:      true, // an interrupt typed at a terminal is for the test
		UseCgroupFD:  true,
		CgroupFD:     int(group.Fd()),
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, r.guard.end())
	}
	go func() {
		_ = cmd.Wait() // how it ended says nothing: a machine's end is asked for
		close(r.exited)
	}()
	return nil
}

func nspawnArgs(l *layer, bind []string) []string {
	args := []string{
		"--directory=root", "--machine=lab-" + l.id, "--boot", "--notify-ready=yes", "--console=pipe",
		"--register=no", "--keep-unit", "--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off",
		"--private-network", "--capability=all", "--system-call-filter=@keyring bpf @mount",
	}
	for _, dir := range bind {
		args = append(args, "--bind="+strings.ReplaceAll(dir, ":", `\:`))
	}
	return args
}

// waitReady reads systemd-nspawn's notifications until the machine is up: the leader's process id comes
// first (nspawn.c, X_NSPAWN_LEADER_PID), READY=1 when the machine's own systemd has finished its start.
func waitReady(ctx context.Context, notify *net.UnixConn) (leader int, err error) {
	stop := context.AfterFunc(ctx, func() { _ = notify.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	message := make([]byte, 4096)
	for {
		n, err := notify.Read(message)
		if err != nil && ctx.Err() != nil {
			return 0, fmt.Errorf("the machine is not up: %w", ctx.Err())
		}
		if err != nil {
			return 0, errors.New("systemd-nspawn ended before the machine was up")
		}
		for line := range strings.Lines(string(message[:n])) {
			line = strings.TrimSpace(line)
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				if leader, err = strconv.Atoi(pid); err != nil {
					return 0, err
				}
			}
			if line == "READY=1" && leader != 0 {
				return leader, nil
			}
		}
	}
}

// poweroff asks the machine's systemd to stop everything and waits for the end.
func (r *run) poweroff(ctx context.Context) error {
	const sigPoweroff = syscall.Signal(34 + 4) // SIGRTMIN+4 of glibc, systemd(1)
	if err := syscall.Kill(r.leader, sigPoweroff); err != nil {
		return err
	}
	select {
	case <-r.exited:
		return r.kill()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the machine at once, and the guard of its group.
func (r *run) kill() error {
	if err := r.group.kill(); err != nil {
		return err
	}
	<-r.exited
	return errors.Join(r.guard.end(), r.group.remove())
}

// guard is a process that kills a group when this process ends, killed or not: then the pipe that it reads
// is closed. The parent death signal of systemd-nspawn would not do: its machine lives on without it.
type guard struct {
	cmd  *exec.Cmd
	pipe *os.File
}

func startGuard(group *cgroup) (*guard, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := exec.Command("sh", "-c", `read -r word || [ ! -e "$1" ] || echo 1 >"$1"`, "sh", filepath.Join(group.path, "cgroup.kill"))
	cmd.Stdin = read
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &guard{cmd, write}, nil
}

// end ends the guard and waits until it can kill no more.
func (g *guard) end() error {
	return errors.Join(g.pipe.Close(), g.cmd.Wait())
}
