package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/test/lab"
)

// cold measures how long the first answer takes from nothing: with zerolet,
// from connect on, stage by stage; by podman run and by the start of a stock
// unit, from the command on, with a client that asks every millisecond. What it takes to run any command in the machine is not
// podman's.
func cold(ctx context.Context, m *lab.Machine, s *lab.Session) (sample, error) {
	found := sample{}
	if err := sleepNow(ctx, s); err != nil {
		return nil, err
	}
	processes := 0
	for _, unit := range []string{"cold.service", "cold-proxy.service"} {
		pids, err := (&peer{machine: m, session: s, units: []string{unit}}).processes(ctx)
		if err != nil {
			return nil, err
		}
		processes += len(pids)
	}
	found[rowAsleep] = float64(processes)

	p := &peer{machine: m, session: s, ports: base(s) + coldPort}
	start, end, err := p.firstAnswer()
	if err != nil {
		return nil, err
	}
	found[rowCold] = ms(end.Sub(start))
	if err := stages(ctx, s, start, end, found); err != nil {
		return nil, err
	}
	if err := stopProxy(ctx, s); err != nil {
		return nil, err
	}
	start, end, err = p.firstAnswer()
	if err != nil {
		return nil, err
	}
	found[rowEdge] = ms(end.Sub(start))
	if err := sleepNow(ctx, s); err != nil {
		return nil, err
	}
	for row, by := range map[row]func(context.Context, *lab.Machine, *lab.Session) (time.Duration, error){
		rowPodmanStart: podmanRun, rowUnitStart: unitStart,
	} {
		took, err := by(ctx, m, s)
		if err != nil {
			return nil, err
		}
		found[row] = ms(took)
	}
	return found, nil
}

// firstAnswer is when a client connects, and when it has its answer.
func (p *peer) firstAnswer() (start, end time.Time, err error) {
	start = time.Now()
	cs, err := p.open(1)
	end = time.Now()
	cs.close()
	return start, end, err
}

// stages finds out where the time between a client's connect and its answer
// went: from systemd's own timestamps, and from the events that Podman writes
// into the journal.
func stages(ctx context.Context, s *lab.Session, start, end time.Time, found sample) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	boot := time.Now().Add(-time.Duration(now.Nano()))
	moments := []time.Time{start}
	unit := func(name, property string) error {
		text, err := s.Show(ctx, name, property+"TimestampMonotonic")
		if err != nil {
			return err
		}
		usec, err := strconv.ParseInt(text, 10, 64)
		moments = append(moments, boot.Add(time.Duration(usec)*time.Microsecond))
		return err
	}
	if err := unit("cold.service", "InactiveExit"); err != nil {
		return err
	}
	journal := ""
	err := until(ctx, "podman's events are in the journal", 10*time.Millisecond, func() bool {
		text, err := s.Journal(ctx, "cold.service")
		journal = text
		return err == nil && lastEvent(text, "start").After(start)
	})
	if err != nil {
		return err
	}
	created := lastEvent(journal, "create")
	moments = append(moments, created.Add(-sinceStart(journal)), created, lastEvent(journal, "init"))
	for _, m := range [][2]string{{"cold.service", "ActiveEnter"}, {"cold-proxy.service", "InactiveExit"}, {"cold-proxy.service", "ActiveEnter"}} {
		if err := unit(m[0], m[1]); err != nil {
			return err
		}
	}
	moments = append(moments, end)
	for i, r := range stageRows() {
		found[r] = ms(moments[i+1].Sub(moments[i]))
	}
	return nil
}

// lastEvent is when Podman says that something happened to a container.
func lastEvent(journal, what string) (at time.Time) {
	all := regexp.MustCompile(`]: (\S+ \S+) \S+ UTC m=\+\S+ container `+what+` `).FindAllStringSubmatch(journal, -1)
	if len(all) > 0 {
		at, _ = time.Parse("2006-01-02 15:04:05.999999999", all[len(all)-1][1])
	}
	return at
}

// sinceStart is how long the last podman had run when it had created the
// container.
func sinceStart(journal string) time.Duration {
	all := regexp.MustCompile(` m=\+(\S+) container create `).FindAllStringSubmatch(journal, -1)
	if len(all) == 0 {
		return 0
	}
	seconds, _ := strconv.ParseFloat(all[len(all)-1][1], 64)
	return time.Duration(seconds * float64(time.Second))
}

// unitStart starts the unit that stock Quadlet makes of the same container,
// which publishes its port.
func unitStart(ctx context.Context, m *lab.Machine, s *lab.Session) (time.Duration, error) {
	systemctl := func(verb string) []string {
		manager := "--system"
		if s.UserManager {
			manager = "--user"
		}
		return []string{"systemctl", manager, verb, "warm.service"}
	}
	p := &peer{machine: m, session: s, ports: base(s) + coldPort + 1}
	return p.answersTo(ctx, systemctl("start"), systemctl("stop"))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// stopProxy ends the proxy, which nobody uses. systemd begins to stop the
// container then, and does not wait for it.
func stopProxy(ctx context.Context, s *lab.Session) error {
	_, err := s.Systemctl(ctx, "stop", "cold-proxy.service")
	return err
}

// sleepNow waits for the container's end, too.
func sleepNow(ctx context.Context, s *lab.Session) error {
	if err := stopProxy(ctx, s); err != nil {
		return err
	}
	return until(ctx, "cold.service is gone", 10*time.Millisecond, func() bool {
		state, err := s.Show(ctx, "cold.service", "ActiveState")
		return err == nil && state == "inactive"
	})
}

// podmanRun runs what the unit of the container would run.
func podmanRun(ctx context.Context, m *lab.Machine, s *lab.Session) (time.Duration, error) {
	p := &peer{machine: m, session: s, ports: base(s) + coldPort + 2}
	return p.answersTo(ctx,
		[]string{
			"podman", "run", "--rm", "--name=bench-cold", "--cgroups=disabled", "--detach",
			"--volume=/opt/bench:/opt/bench:ro", fmt.Sprintf("--publish=127.0.0.1:%d:80", p.ports+webPort),
			"localhost/nginx", "/opt/bench/app",
		},
		[]string{"podman", "rm", "--force", "--time=0", "bench-cold"})
}

// answersTo is how long it takes from a command to the first answer of what it
// starts, to a client that asks every millisecond. Then the other command ends
// it.
func (p *peer) answersTo(ctx context.Context, start, stop []string) (time.Duration, error) {
	begin := time.Now()
	if _, err := p.session.Run(ctx, "true"); err != nil {
		return 0, err
	}
	entering := time.Since(begin)
	cmd := p.session.Command(ctx, start...)
	var said strings.Builder
	cmd.Stderr = &said
	begin = time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err := until(ctx, strings.Join(start[:2], " ")+" leads to an answer", time.Millisecond, p.answersSoon)
	took := time.Since(begin) - entering
	if waitErr := cmd.Wait(); waitErr != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(start, " "), waitErr, said.String())
	}
	if err != nil {
		return 0, err
	}
	_, err = p.session.Run(ctx, stop...)
	return took, err
}

// answersSoon asks once. Until the port leads to the container Podman itself
// may have it, so that nobody else takes it, and never answers (containers.conf(5),
// enable_port_reservation).
func (p *peer) answersSoon() bool {
	cs, err := p.dial(1, webPort)
	defer cs.close()
	if err != nil || cs[0].SetDeadline(time.Now().Add(20*time.Millisecond)) != nil {
		return false
	}
	_, err = request(cs[0])
	return err == nil
}
