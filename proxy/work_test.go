package proxy

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/internal/reach"
)

// A container that works is not idle, and one that has worked once is no longer
// than it takes to see that it does not.
func TestBusyCPU(t *testing.T) {
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout, cfg.BusyCPU = 2*time.Second, 20
	dir := t.TempDir()
	used := func(us int64) {
		text := "usage_usec " + strconv.FormatInt(us, 10) + "\nuser_usec 1\nsystem_usec 1\n"
		if err := os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "cpu.stat")); err != nil {
			t.Fatal(err)
		}
	}
	used(1_000_000)
	began := time.Now()
	r := serve(t, cfg, front, func(s *server) { s.cgroup.Assume(dir) })
	last := time.Now().Add(2 * cfg.IdleTimeout)
	for time.Now().Before(last) {
		used(1_000_000 + time.Since(began).Microseconds()*50) // of many processors: a busy machine may stop this test for most of the time
		select {
		case <-r.done:
			t.Fatalf("gone while the container works\n%s", r.log)
		case <-time.After(5 * time.Millisecond):
		}
	}
	r.wait(t)
	if log := r.log.String(); !strings.Contains(log, "idle for 2s") {
		t.Errorf("journal:\n%s", log)
	}
}

// The begin of an idle time is noted up to a second late: what a container has used in
// the moment since then does not tell that it rests.
func TestWorkOfAMoment(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "cpu.stat"), []byte("usage_usec 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{cgroup: reach.NewCgroup("a.service")}
	s.activity = newActivity()
	s.cfg.IdleTimeout, s.cfg.BusyCPU = time.Second, 1
	s.cgroup.Assume(dir)
	s.beginWork()
	if !s.works() {
		t.Error("it is taken to rest after a moment")
	}
	s.work.at = s.work.at.Add(-time.Second)
	if s.works() {
		t.Error("it is taken to work, and has used nothing in a second")
	}
}

// The longest idle go first, and all within seconds; what is no shortage changes
// nothing.
func TestPressure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory.pressure")
	now, stalled := time.Now(), int64(5_000_000)
	p := pressure{path: path}
	look := func(more int64) (time.Duration, bool) {
		now, stalled = now.Add(time.Second), stalled+more
		text := "some avg10=0.00 avg60=0.00 avg300=0.00 total=" + strconv.FormatInt(stalled, 10) +
			"\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p.look(now)
	}
	if _, short := p.look(now); short {
		t.Error("short without a kernel that tells")
	}
	p = pressure{path: path}
	for i, more := range []int64{900_000, 0, 99_000} {
		if idle, short := look(more); short {
			t.Errorf("look %d: short, %s", i, idle)
		}
	}
	for i, want := range []time.Duration{64 * time.Second, 32 * time.Second, 16 * time.Second, 8 * time.Second, 4 * time.Second} {
		if idle, short := look(200_000); !short || idle != want {
			t.Errorf("second %d: %s, %v; want %s", i, idle, short, want)
		}
	}
	if _, short := look(1000); short {
		t.Error("short for good")
	}
	if idle, _ := look(200_000); idle != 64*time.Second {
		t.Errorf("a new shortage begins with %s", idle)
	}
}

// Who is idle sleeps when memory is short; who is connected, or is never to
// sleep, does not.
func TestShortOfMemory(t *testing.T) {
	t.Parallel() // it waits more than it computes
	front, l := proxytest.ListenTCP(t, "127.0.0.1:0"), proxytest.ListenTCP(t, "127.0.0.1:0")
	proxytest.App(t, l, proxytest.Echo)
	cfg := proxytest.Config(front, proxytest.AddrOf(l))
	cfg.IdleTimeout = time.Hour
	path := filepath.Join(t.TempDir(), "memory.pressure")
	r := serve(t, cfg, front, func(s *server) { s.pressureFile = path })
	c := proxytest.Connect(t, r.addr)
	proxytest.Ask(t, c, "ping")
	began := time.Now()
	write := func() {
		text := "some avg10=0.00 avg60=0.00 avg300=0.00 total=" + strconv.FormatInt(time.Since(began).Microseconds(), 10) + "\n"
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for time.Since(began) < 3*time.Second {
		write()
		time.Sleep(10 * time.Millisecond)
	}
	proxytest.Ask(t, c, "pong")
	c.Close()
	proxytest.Eventually(t, "asleep", func() bool {
		write()
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	})
	if log := r.log.String(); !strings.Contains(log, "memory is short") {
		t.Errorf("journal:\n%s", log)
	}
}
