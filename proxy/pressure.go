package proxy

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
)

// When the machine is short of memory, who is idle sleeps at once. Nobody
// coordinates that: with each second of it a shorter idle time suffices, so that
// those who have been idle for longest go first.
//
// systemd's MemoryPressureWatch= (MEMORY_PRESSURE.md) tells a service of the
// pressure on its own cgroup, of which a proxy has none. The root of the
// hierarchy has that of the machine (Documentation/accounting/psi.rst).

// pressureFile is that of the machine. /proc/pressure is hidden from the proxy
// (ProcSubset=pid).
const pressureFile = "/sys/fs/cgroup/memory.pressure"

const (
	// shortFrom is which share of the time somebody has to have waited for memory:
	// 200 ms of 2 s, as systemd asks the kernel by default.
	shortFrom = 0.1
	// longIdle suffices when the shortage is noticed; each second halves it.
	longIdle = 64 * time.Second
)

// pressure is how much of its time the machine has waited for memory.
type pressure struct {
	path    string
	at      time.Time
	stalled time.Duration // in all, at that time
	seconds int           // for how many looks it has been short
}

// look reports whether the machine is short of memory, and how long who sleeps now
// has to have been idle.
func (p *pressure) look(now time.Time) (idle time.Duration, short bool) {
	stalled, ok := readPressure(p.path)
	passed, more := now.Sub(p.at), stalled-p.stalled
	first := p.at.IsZero()
	p.at, p.stalled = now, stalled
	if !ok || first || float64(more) < shortFrom*float64(passed) {
		p.seconds = 0
		return 0, false
	}
	idle = longIdle >> min(p.seconds, 30)
	p.seconds++
	return idle, true
}

// readPressure reads how long some process has waited for memory. A kernel
// without CONFIG_PSI has no such file.
func readPressure(path string) (time.Duration, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		_, total, found := strings.Cut(strings.TrimSpace(line), " total=")
		if us, err := strconv.ParseInt(total, 10, 64); strings.HasPrefix(line, "some ") && found && err == nil {
			return time.Duration(us) * time.Microsecond, true
		}
	}
	return 0, false
}

// watchPressure ends the idle time early. It looks while nobody is there.
func (s *server) watchPressure() {
	if s.cfg.IdleTimeout == wire.Infinity {
		return // it is never to sleep
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	p := pressure{path: s.pressureFile}
	for {
		select {
		case <-s.ending:
			return
		case now := <-tick.C:
			s.freezing.awaitThaw(s.ending)
			if s.activity.busy() || s.activity.sessions.Load() > 0 {
				p = pressure{path: s.pressureFile}
				continue
			}
			idle, short := p.look(now)
			s.hurried.Store(int64(idle))
			if short {
				s.way.poke()
			}
		}
	}
}

// idleTime is how long the proxy stays without a connection, as things are now.
func (s *server) idleTime() time.Duration {
	if hurried := time.Duration(s.hurried.Load()); hurried > 0 {
		return min(hurried, s.cfg.IdleTimeout)
	}
	return s.cfg.IdleTimeout
}
