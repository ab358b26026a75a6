package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// row is one line of the tables. Each measure fills some.
type row int

const (
	rowRequests16 row = iota
	rowRequestsGo
	rowRequests256
	rowConnections
	rowDownload1
	rowDownload4
	rowUpload1
	rowUpload4
	rowMedian
	row99
	row999
	rowCPURequests
	rowCPUConnections
	rowCPUBulk
	rowDatagrams
	rowCPUDatagrams
	rowMemory
	rowIdle1000
	rowIdleMany
	rowBusy1000
	rowBusyMany
	rowSession
	rowSessionKernel
	rowAsleep
	rowCold
	rowEdge
	rowPodmanStart
	rowUnitStart
	stageJob
	stageExec
	stageCreate
	stageInit
	stageStart
	stageProxyJob
	stageProxyReady
	stageAnswer
)

// label is what is measured, and the unit.
func (r row) label() (name, unit string) {
	labels := [...][2]string{
		rowRequests16:     {"requests, 16 clients", "/s"},
		rowRequestsGo:     {"Go, 16 clients", "/s"},
		rowRequests256:    {"requests, 256 clients", "/s"},
		rowConnections:    {"new connections", "/s"},
		rowDownload1:      {"1 download", "GB/s"},
		rowDownload4:      {"4 downloads", "GB/s"},
		rowUpload1:        {"1 upload", "GB/s"},
		rowUpload4:        {"4 uploads", "GB/s"},
		rowMedian:         {"latency, median", "µs"},
		row99:             {"latency, 99 %", "µs"},
		row999:            {"latency, 99.9 %", "µs"},
		rowCPURequests:    {"CPU per 100,000 requests", "s"},
		rowCPUConnections: {"CPU per 100,000 new connections", "s"},
		rowCPUBulk:        {"CPU per GB", "s"},
		rowDatagrams:      {"datagrams there and back, 64 clients", "/s"},
		rowCPUDatagrams:   {"CPU per 100,000 datagrams there and back", "s"},
		rowMemory:         {"memory, fresh", "KiB"},
		rowIdle1000:       {"memory per idle connection of 1,000", "KiB"},
		rowIdleMany:       {"memory per idle connection of 9,000", "KiB"},
		rowBusy1000:       {"memory per connection of 1,000, busy", "KiB"},
		rowBusyMany:       {"memory per connection of 9,000, busy", "KiB"},
		rowSession:        {"memory per UDP session of 8,192", "KiB"},
		rowSessionKernel:  {"the kernel's, per UDP session of 8,192", "KiB"},
		rowAsleep:         {"processes while asleep", ""},
		rowCold:           {"from nothing to the first answer", "ms"},
		rowEdge:           {"while the container is being stopped, to the first answer of the next", "ms"},
		rowPodmanStart:    {"from nothing, by podman run", "ms"},
		rowUnitStart:      {"from nothing, by systemctl start", "ms"},

		stageJob:        {"systemd: connect → start of the container's unit", "ms"},
		stageExec:       {"systemd: → podman runs", "ms"},
		stageCreate:     {"podman: → container created (its own start, image, storage)", "ms"},
		stageInit:       {"podman: → container initialised (network, mounts, conmon, crun create)", "ms"},
		stageStart:      {"podman, conmon: → unit active (crun start)", "ms"},
		stageProxyJob:   {"systemd: → start of the proxy's unit", "ms"},
		stageProxyReady: {"systemd and zerolet-proxy: → ready (sandbox, exec, Go's start)", "ms"},
		stageAnswer:     {"zerolet-proxy and app: → first answer", "ms"},
	}
	return labels[r][0], labels[r][1]
}

func (r row) name() string { name, _ := r.label(); return name }

func (r row) unit() string { _, unit := r.label(); return unit }

func trafficRows() []row {
	return []row{
		rowRequests16, rowRequestsGo, rowRequests256, rowConnections, rowDownload1, rowDownload4, rowUpload1, rowUpload4,
		rowMedian, row99, row999, rowCPURequests, rowCPUConnections, rowCPUBulk, rowDatagrams, rowCPUDatagrams,
	}
}

func memoryRows() []row {
	return []row{rowMemory, rowIdle1000, rowIdleMany, rowBusy1000, rowBusyMany, rowSession, rowSessionKernel}
}

// stageRows are the stages of a start from nothing, in order.
func stageRows() []row {
	return []row{stageJob, stageExec, stageCreate, stageInit, stageStart, stageProxyJob, stageProxyReady, stageAnswer}
}

// sample is what one run of a measure found.
type sample map[row]float64

// measure loads a peer for about d.
type measure func(ctx context.Context, p *peer, d time.Duration) (sample, error)

func measures() []measure {
	bulkOf := func(n, port int, r row, cost ...row) measure {
		return func(_ context.Context, p *peer, d time.Duration) (sample, error) {
			if p.name == heard && port == sourcePort { // it speaks first: that is not for WakeBy=data
				return nil, nil
			}
			return bulk(p, d, n, port, r, cost...)
		}
	}
	return []measure{
		func(ctx context.Context, p *peer, d time.Duration) (sample, error) {
			rate, _, err := p.wrk(ctx, webPort, 16, d)
			return sample{rowRequests16: rate}, err
		},
		func(ctx context.Context, p *peer, d time.Duration) (sample, error) {
			rate, _, err := p.wrk(ctx, goPort, 16, d)
			return sample{rowRequestsGo: rate}, err
		},
		requestsOf(256, rowRequests256, rowCPURequests),
		requestsOf(16, rowConnections, rowCPUConnections, "Connection: close"),
		bulkOf(1, sourcePort, rowDownload1),
		bulkOf(4, sourcePort, rowDownload4, rowCPUBulk),
		bulkOf(1, sinkPort, rowUpload1),
		bulkOf(4, sinkPort, rowUpload4),
		latencies,
		datagramsOf64,
	}
}

// datagramsOf64 are clients of UDP. Not every peer carries it.
func datagramsOf64(_ context.Context, p *peer, d time.Duration) (sample, error) {
	if slices.Contains([]string{proxyd, haproxy, heard, native, bridge, standIn}, p.name) {
		return nil, nil
	}
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	answers, took, err := p.datagrams(64, d)
	if err != nil {
		return nil, err
	}
	after, err := p.cpu()
	return sample{
		rowDatagrams:    float64(answers) / took.Seconds(),
		rowCPUDatagrams: (after - before).Seconds() / float64(answers) * 1e5,
	}, err
}

// requestsOf is a measure of small requests, and of what 100,000 of them cost.
func requestsOf(connections int, rate, cost row, header ...string) measure {
	return func(ctx context.Context, p *peer, d time.Duration) (sample, error) {
		before, err := p.cpu()
		if err != nil {
			return nil, err
		}
		perSecond, total, err := p.wrk(ctx, webPort, connections, d, header...)
		if err != nil {
			return nil, err
		}
		after, err := p.cpu()
		return sample{rate: perSecond, cost: (after - before).Seconds() / total * 1e5}, err
	}
}

func bulk(p *peer, d time.Duration, n, port int, r row, cost ...row) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return nil, err
	}
	total, took, err := p.bulk(n, port, d)
	if err != nil {
		return nil, err
	}
	after, err := p.cpu()
	s := sample{r: float64(total) / 1e9 / took.Seconds()}
	for _, c := range cost {
		s[c] = (after - before).Seconds() / (float64(total) / 1e9)
	}
	return s, err
}

func latencies(_ context.Context, p *peer, d time.Duration) (sample, error) {
	sorted, err := p.latency(d)
	if err != nil {
		return nil, err
	}
	at := func(q float64) float64 { return float64(sorted[int(q*float64(len(sorted)-1))].Nanoseconds()) / 1e3 }
	return sample{rowMedian: at(0.5), row99: at(0.99), row999: at(0.999)}, nil
}

// cpu is what the whole machine has used: the app, and whatever carries its
// bytes. Clients are entered from outside and stay in the host's group.
func (p *peer) cpu() (time.Duration, error) {
	text, err := os.ReadFile(p.machine.Host("/sys/fs/cgroup/cpu.stat"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	usec, err := strconv.ParseInt(strings.TrimPrefix(first, "usage_usec "), 10, 64)
	return time.Duration(usec) * time.Microsecond, err
}

// memories is the memory of what stands between, with no connection yet, with
// idle ones and with busy ones. It must come before any load.
func memories(ctx context.Context, p *peer) (sample, error) {
	fresh, err := p.memory(ctx)
	if err != nil || fresh == 0 {
		return nil, err // nothing stands between, or the kernel does
	}
	s := sample{rowMemory: fresh}
	for _, step := range []struct {
		n          int
		idle, busy row
	}{{1000, rowIdle1000, rowBusy1000}, {9000, rowIdleMany, rowBusyMany}} {
		if step.n > 1000 && p.name != zero {
			break // pasta runs out of descriptors, and all after it suffers
		}
		idle, busy, err := p.memoryOf(ctx, step.n)
		if err != nil {
			return s, fmt.Errorf("%d connections: %w", step.n, err)
		}
		s[step.idle] = (idle - fresh) / float64(step.n)
		s[step.busy] = (busy - fresh) / float64(step.n)
	}
	if p.name == zero {
		err = p.memoryOfSessions(ctx, s)
	}
	return s, err
}

// memoryOfSessions fills the proxy's table of sessions, from clients that are
// there before.
func (p *peer) memoryOfSessions(ctx context.Context, s sample) error {
	const sessions = 8192
	udp := *p
	udp.units = []string{"zero-udp-proxy.service"}
	clients, err := udp.dialUDP(sessions)
	defer closeAll(clients)
	if err != nil {
		return err
	}
	fresh, err := udp.memory(ctx)
	if err != nil {
		return err
	}
	kernel, err := settledSocketMemory(ctx)
	if err != nil {
		return err
	}
	for _, c := range clients {
		for asked := 0; !askUDP(c); asked++ {
			if asked == 10 {
				return fmt.Errorf("%s: a datagram is not answered", c.LocalAddr())
			}
		}
	}
	full, err := udp.memory(ctx)
	if err != nil {
		return err
	}
	kernelFull, err := socketMemory()
	s[rowSession], s[rowSessionKernel] = (full-fresh)/sessions, (kernelFull-kernel)/sessions
	return err
}

// settledSocketMemory is socketMemory when the kernel has given back what was
// closed before.
func settledSocketMemory(ctx context.Context) (kib float64, err error) {
	slow := until(ctx, "the kernel has given back what was closed", 200*time.Millisecond, func() bool {
		last := kib
		kib, err = socketMemory()
		return err != nil || last > 0 && kib >= last
	})
	return kib, errors.Join(err, slow)
}

// socketMemory is what the kernel of the machine, and of the host, has for
// sockets without any data, in KiB: of those of UDP, their files and what waits for them
// (slabinfo(5)).
func socketMemory() (kib float64, err error) {
	text, err := os.ReadFile("/proc/slabinfo")
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "UDP", "UDPv6", "sock_inode_cache", "filp", "eventpoll_epi", "ep_head":
			objects, _ := strconv.ParseFloat(fields[1], 64)
			size, _ := strconv.ParseFloat(fields[3], 64)
			kib += objects * size / 1024
		}
	}
	return kib, err
}

func (p *peer) memoryOf(ctx context.Context, n int) (idle, busy float64, err error) {
	cs, err := p.open(n)
	if err != nil {
		return 0, 0, err
	}
	defer cs.close()
	if idle, err = p.memory(ctx); err != nil {
		return 0, 0, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	churned := make(chan error, 1)
	go func() { churned <- churn(ctx, cs) }()
	for range 10 {
		time.Sleep(50 * time.Millisecond) // between looks at a moving thing
		now, err := p.memory(ctx)
		if err != nil {
			return 0, 0, err
		}
		busy = max(busy, now)
	}
	stop()
	return idle, busy, <-churned
}

// memory is the proportional set size (proc_pid_smaps(5)) of the processes
// between, in KiB. Kernel memory is not in it.
func (p *peer) memory(ctx context.Context) (kib float64, err error) {
	pids, err := p.processes(ctx)
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.Atoi(strings.Fields(value)[0])
				if err != nil {
					return 0, err
				}
				kib += float64(n)
			}
		}
	}
	return kib, err
}
