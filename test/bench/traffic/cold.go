package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// cold measures how long the first answer takes from nothing: with zerolet,
// from connect on; by podman run, from the command on, with a client that asks
// every millisecond. What it takes to run any command in the machine is not
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
	start := time.Now()
	cs, err := p.open(1)
	if err != nil {
		return nil, err
	}
	found[rowCold] = ms(time.Since(start))
	cs.close()
	if err := sleepNow(ctx, s); err != nil {
		return nil, err
	}

	took, err := podmanRun(ctx, m, s)
	found[rowPodmanStart] = ms(took)
	return found, err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// sleepNow ends the proxy, which nobody uses; the container follows.
func sleepNow(ctx context.Context, s *lab.Session) error {
	if _, err := s.Systemctl(ctx, "stop", "cold-proxy.service"); err != nil {
		return err
	}
	return until(ctx, "cold.service is gone", 10*time.Millisecond, func() bool {
		state, err := s.Show(ctx, "cold.service", "ActiveState")
		return err == nil && state == "inactive"
	})
}

// podmanRun runs what the unit of the container would run.
func podmanRun(ctx context.Context, m *lab.Machine, s *lab.Session) (time.Duration, error) {
	begin := time.Now()
	if _, err := s.Run(ctx, "true"); err != nil {
		return 0, err
	}
	entering := time.Since(begin)

	p := &peer{machine: m, session: s, ports: base(s) + coldPort + 2}
	cmd := s.Command(ctx, "podman", "run", "--rm", "--name=bench-cold", "--cgroups=disabled", "--detach",
		"--volume=/opt/bench:/opt/bench:ro", fmt.Sprintf("--publish=127.0.0.1:%d:80", p.ports+webPort),
		"localhost/nginx", "/opt/bench/app")
	var said strings.Builder
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	err := until(ctx, "podman's container answers", time.Millisecond, func() bool {
		return p.answersSoon()
	})
	took := time.Since(start) - entering
	if waitErr := cmd.Wait(); waitErr != nil {
		return 0, fmt.Errorf("podman run: %w: %s", waitErr, said.String())
	}
	if err != nil {
		return 0, err
	}
	_, err = s.Run(ctx, "podman", "rm", "--force", "--time=0", "bench-cold")
	return took, err
}

// answersSoon asks once. Until the port leads to the container Podman itself
// may have it, and never answers (see published.go of the proxy).
func (p *peer) answersSoon() bool {
	cs, err := p.dial(1, webPort)
	defer cs.close()
	if err != nil || cs[0].SetDeadline(time.Now().Add(20*time.Millisecond)) != nil {
		return false
	}
	_, err = request(cs[0])
	return err == nil
}
