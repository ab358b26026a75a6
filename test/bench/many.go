package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

const (
	reloads = 7
	boots   = 3
)

// many measures what services cost by their number, while they sleep: those who
// ask for them, and the manager. The units of the same files that stock Quadlet
// makes stand beside them.
func many(ctx context.Context, counts ...string) (_ string, err error) {
	if len(counts) == 0 {
		counts = []string{"0", "100", "300", "1000"}
	}
	dir, err := os.MkdirTemp("", "zerolet-bench-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if text, err := exec.CommandContext(ctx, "make", "-C", "..", "install", "DESTDIR="+dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make install: %w\n%s", err, text)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s; trixie, all services asleep; CPU and time in ms: median (quartiles) of %d, of a boot median of %d.\n\n", machine(), reloads, boots)
	asked := "| manager | services | status, CPU | processes | metrics, CPU | processes |\n|---|---|---|---|---|---|\n"
	carried := "| manager | services | memory, MiB | stock | daemon-reload | stock | boot | stock |\n|---|---|---|---|---|---|---|---|\n"
	for _, user := range []bool{false, true} {
		for _, count := range counts {
			n, err := strconv.Atoi(count)
			if err != nil {
				return "", err
			}
			those, these, err := manyServices(ctx, dir, n, user)
			if err != nil {
				return "", fmt.Errorf("%d services: %w", n, err)
			}
			asked += those
			carried += these
		}
	}
	return text.String() + asked + "\n" + carried, nil
}

// manyServices gives a line of each table, from a machine of its own.
func manyServices(ctx context.Context, installed string, n int, user bool) (who, what string, err error) {
	m, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	s := m.Root()
	if user {
		s = m.User()
	}
	if err := declareMany(ctx, s, n); err != nil {
		return "", "", err
	}
	stock, err := manager(ctx, m, s)
	if err != nil {
		return "", "", err
	}
	if err := m.Install(ctx, installed); err != nil {
		return "", "", err
	}
	ours, err := manager(ctx, m, s)
	if err != nil {
		return "", "", err
	}
	status, statusProcesses, err := asked(ctx, s, n, "status")
	if err != nil {
		return "", "", err
	}
	metrics, metricsProcesses, err := asked(ctx, s, n, "metrics")
	who = fmt.Sprintf("| %s | %d | %s | %d | %s | %d |\n", s.Name, n, status, statusProcesses, metrics, metricsProcesses)
	what = fmt.Sprintf("| %s | %d | %.1f | %.1f | %s | %s | %d | %d |\n", s.Name, n, ours.mib, stock.mib, ours.reload, stock.reload,
		ours.boot.median().Milliseconds(), stock.boot.median().Milliseconds())
	return who, what, err
}

// declareMany writes files without [Install]: stock Quadlet's units start no
// container at boot, either.
func declareMany(ctx context.Context, s *lab.Session, n int) error {
	script := fmt.Sprintf(`mkdir -p %[1]s && for i in $(seq %[2]d); do printf '%%s\n' [Container] Image=localhost/app "PublishPort=$((20000+i)):80" `+
		`"Volume=/srv/$i:/srv:Z" "Environment=NUMBER=$i" [ScaleToZero] IdleTimeout=30s >%[1]s/scaled-$i.container; done`, s.QuadletDir, n)
	_, err := s.Run(ctx, "sh", "-c", script)
	return err
}

// load is what a manager carries.
type load struct {
	mib          float64
	reload, boot sample
}

// manager measures one that has just booted.
func manager(ctx context.Context, m *lab.Machine, s *lab.Session) (l load, err error) {
	for range boots {
		if err := m.Reboot(ctx); err != nil {
			return l, err
		}
		took, err := bootTime(ctx, s)
		if err != nil {
			return l, err
		}
		l.boot = append(l.boot, took)
	}
	for range reloads {
		began := time.Now()
		if _, err := s.Systemctl(ctx, "daemon-reload"); err != nil {
			return l, err
		}
		l.reload = append(l.reload, time.Since(began))
	}
	l.mib, err = memory(ctx, m, s)
	return l, err
}

// bootTime is how long the manager took from its start until all was up.
func bootTime(ctx context.Context, s *lab.Session) (time.Duration, error) {
	out, err := s.Systemctl(ctx, "show", "--property=UserspaceTimestampMonotonic,FinishTimestampMonotonic")
	if err != nil {
		return 0, err
	}
	var began, ended int64
	for line := range strings.Lines(out.Stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		us, _ := strconv.ParseInt(value, 10, 64)
		if key == "FinishTimestampMonotonic" {
			ended = us
		} else {
			began = us
		}
	}
	if began == 0 || ended < began {
		return 0, fmt.Errorf("the manager tells no time of its boot: %s", out.Stdout)
	}
	return time.Duration(ended-began) * time.Microsecond, nil
}

// memory is the manager's own, in MiB: what it shares with nobody.
func memory(ctx context.Context, m *lab.Machine, s *lab.Session) (float64, error) {
	pid := "1"
	if s.UserManager {
		out, err := m.Root().Run(ctx, "systemctl", "show", "--value", "--property=MainPID", "user@1000.service")
		if err != nil {
			return 0, err
		}
		pid = strings.TrimSpace(out.Stdout)
	}
	out, err := m.Root().Run(ctx, "sed", "-n", "s/^Private_Dirty: *//p", "/proc/"+pid+"/smaps_rollup")
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(out.Stdout), " kB"), 64)
	return kib / 1024, err
}

// asked is what zerolet and all that it starts take to tell about n services,
// and how many processes that are.
func asked(ctx context.Context, s *lab.Session, n int, verb string) (cpu sample, processes int, err error) {
	for range reloads {
		cmd := s.Command(ctx, "zerolet", verb)
		out, err := cmd.Output()
		if err != nil {
			return nil, 0, err
		}
		if told := strings.Count(string(out), "scaled-"); told < n {
			return nil, 0, fmt.Errorf("zerolet %s tells of %d services of %d", verb, told, n)
		}
		cpu = append(cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()) // getrusage(2): with all children
	}
	started, err := startedBy(ctx, s, verb)
	return cpu, len(started) + 1, err
}

// startedBy are the programs that it starts, each seen by a script in front of
// it.
func startedBy(ctx context.Context, s *lab.Session, verb string) ([]string, error) {
	const script = `d=$(mktemp -d) && for p in systemctl journalctl podman; do ` +
		`printf '#!/bin/sh\necho %s >>%s/log\nexec /usr/bin/%s "$@"\n' $p $d $p >$d/$p && chmod +x $d/$p || exit; done; ` +
		`: >$d/log; PATH=$d:$PATH zerolet "$1" >/dev/null; cat $d/log; rm -r $d`
	out, err := s.Run(ctx, "sh", "-c", script, "sh", verb)
	return strings.Fields(out.Stdout), err
}
