package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// Of many containers that are to start at once, so many do as keep the processors
// busy: the first are there soon, instead of all late. Those that start stand in a
// file. Who has its lock is the next one, and the others wait for the lock. systemd
// knows which starts have ended, also those of the dead, and none counts for ever.

const (
	// placeLasts bounds how long a start counts. It may wait for one that waits for
	// a place, in a way that systemd does not know.
	placeLasts = 15 * time.Second
	// lookEvery is how often the next one looks whether the processors are idle.
	lookEvery = 250 * time.Millisecond
	// idleFrom is how much of a processor has to be: then all that start wait for
	// something else, and one more may.
	idleFrom = lookEvery / 2
)

// Start is one that goes on.
type Start struct {
	Name string
	ID   string    // of the unit's invocation (systemd.exec(5))
	At   time.Time // by the clock on the wall: if somebody sets it, this one counts for less long
}

// Places are those in which the containers of a manager start.
type Places struct {
	Host

	File  string
	Count int
}

// Take waits for a place, for half the time that a start may take at most: as long
// as that lasts systemd waits for each of the unit's commands. told gets to know if
// none is free when it is the next one.
func (p Places) Take(ctx context.Context, name, id string, told func()) error {
	file, err := os.OpenFile(p.File, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	switch err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		starts, err := readStarts(file)
		if err != nil || len(starts) < p.Count {
			return errors.Join(err, writeStarts(file, append(starts, Start{name, id, time.Now()})))
		}
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return err
	}
	bus, err := p.Connect(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	patience, err := startTimeout(ctx, bus, wire.Container.Of(name))
	if err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	if err := lock(waiting, file); err != nil {
		return nil //nolint:nilerr // it has waited long enough
	}
	starts, err := p.next(waiting, bus, file, told)
	if err != nil && waiting.Err() == nil {
		return err
	}
	return writeStarts(file, append(starts, Start{name, id, time.Now()}))
}

// lock waits for the lock, which goes with the process.
func lock(ctx context.Context, file *os.File) error {
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(file.Fd()), syscall.LOCK_EX) }()
	select {
	case err := <-locked:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next waits until there is a place, and returns the starts that go on then.
func (p Places) next(ctx context.Context, bus *systemd.Bus, file io.ReadSeeker, told func()) ([]Start, error) {
	starts, err := readStarts(file)
	if err != nil {
		return nil, err
	}
	var units []string
	for _, s := range starts {
		units = append(units, wire.Container.Of(s.Name), wire.Proxy.Of(s.Name))
	}
	changes := bus.Changes(ctx, units...)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told = sync.OnceFunc(told)
	for before := idleTime(); ; {
		if starts, err = goOn(ctx, bus, starts); err != nil || len(starts) < p.Count {
			return starts, err
		}
		told()
		select {
		case <-ctx.Done():
			return starts, ctx.Err()
		case <-changes:
		case <-tick.C:
			now := idleTime()
			if now-before >= idleFrom {
				return starts, nil
			}
			before = now
		}
	}
}

// goOn are those of some starts that have not ended: the container starts, or no
// client has reached it yet.
func goOn(ctx context.Context, bus *systemd.Bus, starts []Start) ([]Start, error) {
	var wanted []systemd.Wanted
	for _, s := range starts {
		wanted = append(wanted,
			systemd.Wanted{Name: wire.Container.Of(s.Name), Properties: []string{"ActiveState", "InvocationID"}, Into: make(systemd.Unit)},
			systemd.Wanted{Name: wire.Proxy.Of(s.Name), Properties: []string{"ActiveState", "Job", "StatusText"}, Into: make(systemd.Unit)})
	}
	if err := bus.Fill(ctx, wanted); err != nil {
		return starts, err
	}
	var left []Start
	for i, s := range starts {
		container, proxy := wanted[2*i].Into, wanted[2*i+1].Into
		unheard := proxy["StatusText"] != "" && !wire.ParseStatus(proxy["StatusText"]).Reached
		comes := proxy.Waits() || proxy.Is("activating") || proxy.Is("active") && unheard
		starting := container.Is("activating") || container.Is("active") && comes
		if starting && container["InvocationID"] == s.ID && s.counts() {
			left = append(left, s)
		}
	}
	return left, nil
}

// counts reports whether a start has not gone on for too long.
func (s Start) counts() bool {
	age := time.Since(s.At)
	return age >= 0 && age < placeLasts
}

// readStarts are those that still count.
func readStarts(file io.ReadSeeker) ([]Start, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	var starts []Start
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue // who wrote it has died
		}
		us, _ := strconv.ParseInt(fields[2], 10, 64)
		starts = append(starts, Start{fields[0], fields[1], time.UnixMicro(us)})
	}
	return slices.DeleteFunc(starts, func(s Start) bool { return !s.counts() }), err
}

func writeStarts(file *os.File, starts []Start) error {
	var b strings.Builder
	for _, s := range starts {
		fmt.Fprintln(&b, s.Name, s.ID, s.At.UnixMicro())
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(b.String()), 0)
	return err
}

// startTimeout is the TimeoutStartSec= of a service.
func startTimeout(ctx context.Context, bus *systemd.Bus, unit string) (time.Duration, error) {
	const property = "TimeoutStartUSec"
	service := make(systemd.Unit)
	if err := bus.Fill(ctx, []systemd.Wanted{{Name: unit, Properties: []string{property}, Into: service}}); err != nil {
		return 0, err
	}
	const longest = time.Hour // also for "infinity", which is 2^64-1
	us, err := strconv.ParseInt(service[property], 10, 64)
	if err != nil || us > longest.Microseconds() {
		return longest, nil //nolint:nilerr // it is more than there is
	}
	return time.Duration(us) * time.Microsecond, nil
}

// idleTime is how long the processors have been idle, all together, in ticks of 10 ms
// (proc_stat(5)). Who waits for a disk is not idle.
func idleTime() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	fields := strings.Fields(string(text))
	if len(fields) < 5 {
		return 0
	}
	ticks, _ := strconv.ParseInt(fields[4], 10, 64)
	return time.Duration(ticks) * 10 * time.Millisecond
}
