package reliability

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// boundary is a run of clients against several services at the edge between
// idle and awake. What it learns is kept by start id.
type boundary struct {
	idle     time.Duration // IdleTimeout= of the services
	services int
	wakes    *atomic.Int64 // how many are left to do
	clients  []netip.Addr  // who asks
	freezes  bool          // the services are frozen, not stopped: that is counted

	mu     sync.Mutex
	starts map[string]map[int]bool // the numbers that each start has answered with
	asked  int
	lost   []error
	wrong  []error // whom the app has taken for somebody else
	worst  time.Duration
	took   time.Duration
	frozen atomic.Int64 // times that a client was about to come to a frozen one
}

// Clients with random pauses around the idle time, on Podman. systemd stops an
// unneeded unit at most 16 times in 10 s (unit.c, auto_start_stop_ratelimit),
// so many services take turns.
func TestIdleEdgeOnPodman(t *testing.T) {
	bothManagers(t, wakes(12, 10), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{idle: 200 * time.Millisecond, services: 3, wakes: left}
		for i := range b.services {
			h.App(name(i), "-tally :80", fmt.Sprintf("PublishPort=%d:80", port(h, i)), "[ScaleToZero]", "IdleTimeout=200ms")
		}
		b.run(h, r)
		b.check(h, talliedInJournal(h))
	})
}

// The same on the same units with the container's command replaced by the app
// itself, so that a wake costs milliseconds. It has a network and a user
// namespace of its own, as a container has.
func TestIdleEdgeByForce(t *testing.T) {
	bothManagers(t, wakes(60, 1), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{idle: 50 * time.Millisecond, services: 8, wakes: left}
		app := installApp(h)
		for i := range b.services {
			byForce(h, name(i), app+" -tally :80")
			h.Declare(name(i), "Image=localhost/none", fmt.Sprintf("PublishPort=%d:80", port(h, i)), "[ScaleToZero]", "IdleTimeout=50ms")
		}
		b.run(h, r)
		b.check(h, talliedInFile(h))
	})
}

// The same with containers that are frozen, at the edge of which nothing is started.
func TestFreezeEdge(t *testing.T) {
	bothManagers(t, wakes(60, 1), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{idle: 50 * time.Millisecond, services: 4, wakes: left, freezes: true}
		for i := range b.services {
			h.App(name(i), "-tally :80", fmt.Sprintf("PublishPort=%d:80", port(h, i)),
				"[ScaleToZero]", "IdleTimeout=50ms", "Sleep=freeze", "StopAfter=infinity")
		}
		b.run(h, r)
		for i := range b.services {
			h.Must(h.T, "zerolet", "sleep", "--force", name(i))
		}
		b.check(h, talliedInJournal(h))
	})
}

// byForce has a service run a command in a network of its own, in the place of Podman.
func byForce(h *harness.Host, name, command string) {
	h.Helper()
	dropIn(h, name+".service", "[Service]", "Type=exec", "ExecStart=", "ExecStop=", "ExecStopPost=", "Delegate=no",
		"ExecStart=unshare --map-root-user --net sh -c 'ip link set lo up && echo $$$$ >%t/%N.pid && exec "+command+"'",
		"ExecStopPost=rm -f %t/%N.pid", "StandardOutput=append:%t/tally.log")
}

// wakes are how many a test makes, with -soak a share of those asked for.
func wakes(few, share int) int {
	if *soak {
		return *count / share
	}
	return few
}

// talliedInJournal sums up what the apps have counted, as Podman passes it on.
func talliedInJournal(h *harness.Host) func() int {
	return func() int {
		sum := 0
		for _, record := range records(h, "--grep=^tallied ", "_UID="+h.Must(h.T, "id", "-u")) {
			sum += tallied(record.text("MESSAGE"))
		}
		return sum
	}
}

// talliedInFile is the same where the apps are the services themselves.
func talliedInFile(h *harness.Host) func() int {
	return func() int {
		sum := 0
		for line := range strings.Lines(h.Must(h.T, "cat", filepath.Join(h.RuntimeDir, "tally.log"))) {
			sum += tallied(line)
		}
		return sum
	}
}

func name(i int) string { return fmt.Sprintf("edge%d", i) }

func port(h *harness.Host, i int) int { return h.Port + 10*(i+1) }

func tallied(message string) int {
	text, _ := strings.CutPrefix(strings.TrimSpace(message), "tallied ")
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n
}

// bothManagers runs a test on both managers of a machine at once, with a source
// of random numbers for each, until each has had its half of the wakes.
func bothManagers(t *testing.T, wakes int, test func(h *harness.Host, r *rand.Rand, left *atomic.Int64)) {
	t.Parallel()
	seed := *seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	harness.EachAtOnce(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		t.Logf("seed %d", seed)
		left := new(atomic.Int64)
		left.Store(int64(wakes+1) / 2)
		test(h, rand.New(rand.NewPCG(seed, uint64(h.Port))), left)
	})
}

// installApp puts test/app into the machine.
func installApp(h *harness.Host) string {
	h.Helper()
	built := filepath.Join(h.TempDir(), "app")
	cmd := exec.Command("go", "build", "-o", built, "../app")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.Fatalf("go build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(built)
	if err != nil {
		h.Fatal(err)
	}
	path := filepath.Join(h.Home, "app")
	h.PutFile(path, string(program))
	h.Must(h.T, "chmod", "755", path)
	return path
}

// run has every service asked in rounds until there were enough wakes.
func (b *boundary) run(h *harness.Host, r *rand.Rand) {
	b.starts = make(map[string]map[int]bool)
	b.clients = append(lab.Outside(), harness.Clients()...)
	ctx, cancel := context.WithTimeout(h.Context(), *limit)
	defer cancel()
	began := time.Now()
	var all sync.WaitGroup
	for i := range b.services {
		own := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		group := controlGroup(h, i)
		all.Go(func() {
			for b.wakes.Load() > 0 && ctx.Err() == nil {
				b.round(h, own, port(h, i), group)
			}
		})
	}
	all.Wait()
	b.took = time.Since(began)
}

// controlGroup is where the host sees whether a service runs, at the price of a
// stat(2): systemd removes the directory when it sleeps.
func controlGroup(h *harness.Host, i int) string {
	h.Helper()
	c := h.ConnectTo(port(h, i))
	defer c.Close()
	h.WaitState(name(i)+".service", "active")
	group := h.M.Host("/sys/fs/cgroup" + h.Property(name(i)+".service", "ControlGroup"))
	if _, err := os.Stat(group); err != nil {
		h.Fatal(err)
	}
	return group
}

// round is one to four clients that come within a moment, and a rest: in one
// of two up to the edge itself, where the proxy exits and the container stops,
// else into the sleep, for which a busy machine takes its time.
func (b *boundary) round(h *harness.Host, r *rand.Rand, port int, group string) {
	var clients sync.WaitGroup
	for range 1 + r.IntN(4) {
		rest := time.Duration(r.Int64N(int64(20 * time.Millisecond)))
		client := b.clients[r.IntN(len(b.clients))]
		clients.Go(func() {
			time.Sleep(rest)
			b.ask(h, client, port)
		})
	}
	clients.Wait()
	rest := time.Duration(r.Int64N(int64(60 * time.Millisecond)))
	if r.IntN(2) == 0 {
		time.Sleep(b.idle - 10*time.Millisecond + rest)
		return
	}
	for end := time.Now().Add(harness.Patience); time.Now().Before(end) && !b.sleeps(group); time.Sleep(5 * time.Millisecond) {
	}
	time.Sleep(rest)
	if b.freezes && b.sleeps(group) {
		b.wakes.Add(-1)
		b.frozen.Add(1)
	}
}

// sleeps reports whether the service of a control group does.
func (b *boundary) sleeps(group string) bool {
	if !b.freezes {
		_, err := os.Stat(group)
		return err != nil
	}
	payloads, _ := filepath.Glob(filepath.Join(group, "libpod-payload-*", "cgroup.events")) // no error for this pattern
	for _, path := range payloads {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "frozen 1") {
			return true
		}
	}
	return false
}

// ask is one request with a number of its own, and its answer.
func (b *boundary) ask(h *harness.Host, client netip.Addr, port int) {
	b.mu.Lock()
	b.asked++
	number := strconv.Itoa(b.asked)
	b.mu.Unlock()
	began := time.Now()
	got, err := exchangeNumber(h, client, port, number)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.worst = max(b.worst, time.Since(began))
	if err != nil {
		b.lost = append(b.lost, fmt.Errorf("request %s of %s on port %d: %w", number, client, port, err))
		return
	}
	if got.peer != got.client {
		b.wrong = append(b.wrong, fmt.Errorf("request %s of %s on port %d came as %s", number, got.client, port, got.peer))
	}
	switch {
	case b.starts[got.id] == nil:
		b.wakes.Add(-1)
		b.starts[got.id] = map[int]bool{got.n: true}
	case b.starts[got.id][got.n]:
		b.lost = append(b.lost, fmt.Errorf("number %d of start %s twice", got.n, got.id))
	default:
		b.starts[got.id][got.n] = true
	}
}

// tallyAnswer is an answer of "app -tally", and who has it.
type tallyAnswer struct {
	id           string
	n            int
	peer, client string // as the app, and as the client, knows the latter
}

func exchangeNumber(h *harness.Host, client netip.Addr, port int, number string) (a tallyAnswer, err error) {
	c, err := h.M.DialFrom(h.Context(), "tcp", netip.AddrPortFrom(client, 0), uint16(port))
	if err != nil {
		return a, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(harness.Patience))
	if _, err := fmt.Fprintln(c, number); err != nil {
		return a, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return a, err
	}
	var echoed string
	if _, err := fmt.Sscan(line, &a.id, &a.n, &a.peer, &echoed); err != nil {
		return a, fmt.Errorf("answer %q: %w", line, err)
	}
	if echoed != number {
		return a, errors.New("the answer is another's: " + line)
	}
	a.client = c.LocalAddr().String()
	return a, nil
}

// check compares what the clients got with what the apps have counted.
func (b *boundary) check(h *harness.Host, count func() int) {
	h.Helper()
	for _, err := range append(b.lost, b.wrong...) {
		h.Error(err)
	}
	for id, numbers := range b.starts {
		for n := range len(numbers) {
			if !numbers[n+1] {
				h.Errorf("start %s answered %d requests, but none with number %d: it got one twice", id, len(numbers), n+1)
			}
		}
	}
	for i := range b.services {
		h.WaitState(name(i)+".service", "inactive")
	}
	counted := 0
	h.WaitFor(h.T, harness.Patience, "the apps have told all they have counted", func() (bool, error) {
		counted = count()
		return counted >= b.asked, nil
	})
	if counted != b.asked {
		h.Errorf("the apps have counted %d requests of %d", counted, b.asked)
	}
	if left := b.wakes.Load(); left > 0 {
		h.Logf("ended by its time: %d wakes were not done", left)
	}
	if b.freezes {
		h.Logf("%d thaws", b.frozen.Load())
	}
	h.Logf("%d requests, %d wakes of %d services in %s: %d lost or twice, %d as somebody else, worst wait %s",
		b.asked, len(b.starts), b.services, b.took.Round(time.Second), len(b.lost), len(b.wrong), b.worst.Round(time.Millisecond))
	if failed, err := h.M.Failed(h.Context()); err != nil || len(failed) > 0 {
		h.Errorf("failed units: %v %v", failed, err)
	}
}
