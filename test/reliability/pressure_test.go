package reliability

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// While memory is short, who is idle sleeps, longest idle first, and who is connected
// stays. Who comes is served, however soon the container sleeps again. The shortage is
// real, and that of one process.
func TestMemoryIsShort(t *testing.T) {
	if !*soak {
		t.Skip("it takes minutes; the short one is TestShortOfMemory in test/system")
	}
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		names := []string{"old0", "old1", "middle0", "middle1", "young0", "young1", "used", "asked0", "asked1"}
		conns := make(map[string]net.Conn)
		ports := make(map[string]int)
		echo := echoPort(h) - h.Port // from a service's port to that of its echo
		for i, name := range names {
			ports[name] = port(h, i)
			h.App(name, "-http :80 -echo :81", fmt.Sprintf("PublishPort=%d:80", ports[name]), fmt.Sprintf("PublishPort=%d:81", ports[name]+echo),
				"[ScaleToZero]", "IdleTimeout=1h")
		}
		for name, at := range ports {
			conns[name] = h.ConnectTo(at + echo)
			exchange(h, conns[name], "before")
		}
		end := func(age string) time.Time {
			for _, i := range []string{"0", "1"} {
				conns[age+i].Close()
			}
			return time.Now()
		}
		idle := func(since time.Time, least time.Duration) {
			h.Wait(fmt.Sprintf("it has been idle for %s", least), func() bool { return time.Since(since) > least })
		}
		// With each second of the shortage half of the idle time suffices, from 64 s on.
		idle(end("old"), 55*time.Second)
		idle(end("middle"), 15*time.Second)
		started := h.Property("used.service", "InvocationID")
		shortage := newShortage(h)
		end("young")
		shortage.begin()
		for _, name := range names[:6] {
			h.WaitState(name+".service", "inactive")
		}
		var order []string
		h.Wait("the journal has all", func() bool {
			order = sleptForMemory(h, names[:6])
			return len(order) >= 6
		})
		if ages := slices.Compact(slices.Clone(order)); len(order) != 6 || !slices.Equal(ages, []string{"old", "middle", "young"}) {
			t.Errorf("longest idle first: %v", order)
		}

		end("asked")
		askWhileShort(h, ports["asked0"], ports["asked1"])
		exchange(h, conns["used"], "after")
		if h.Property("used.service", "InvocationID") != started {
			t.Error("who is in use has slept")
		}
		shortage.end()
		conns["used"].Close()
		h.Wait("there is time again", func() bool {
			return time.Until(wire.ParseStatus(h.Property("used-proxy.service", "StatusText")).Ends) > 30*time.Minute
		}, "used-proxy.service")
		if shown := h.Must(t, "zerolet", "status"); strings.Contains(shown, "failing") {
			t.Errorf("status:\n%s", shown)
		}
		h.Must(t, append([]string{"zerolet", "sleep"}, names...)...)
	})
}

// sleptForMemory are those of the services that sleep since memory is short, in this
// order and without their numbers.
func sleptForMemory(h *harness.Host, names []string) (order []string) {
	h.Helper()
	field := map[bool]string{false: "_SYSTEMD_UNIT=", true: "_SYSTEMD_USER_UNIT="}[h.UserManager]
	match := []string{"MESSAGE_ID=" + wire.SleepMessage, "--grep=and memory is short"}
	for _, name := range names {
		match = append(match, field+wire.Proxy.Of(name))
	}
	for _, r := range records(h, match...) {
		name := strings.TrimSuffix(r.text("ZEROLET_CONTAINER"), ".service")
		order = append(order, name[:len(name)-1])
	}
	return order
}

// askWhileShort has clients of services come after random pauses around the 5 s after
// which these sleep now, until each has started often.
func askWhileShort(h *harness.Host, ports ...int) {
	h.Helper()
	const starts = 10
	ctx, cancel := context.WithTimeout(h.Context(), *limit)
	defer cancel()
	var all sync.WaitGroup
	for _, at := range ports {
		all.Go(func() {
			ids, asked := make(map[string]bool), 0
			for len(ids) < starts && ctx.Err() == nil {
				id, err := askOnce(h, at, harness.Patience)
				if err != nil {
					h.Errorf("a client of port %d: %v", at, err)
				}
				ids[id] = true
				asked++
				time.Sleep(3*time.Second + rand.N(4*time.Second))
			}
			if len(ids) < starts {
				h.Errorf("port %d: it has started %d times only", at, len(ids))
			}
			h.Logf("port %d: %d requests, %d starts", at, asked, len(ids))
		})
	}
	all.Wait()
}

// shortage is a process that may have less memory than it uses: it is short of it for
// most of the time, and so is the machine. Nobody else has less for that.
type shortage struct {
	*harness.Host
	gate   string // it begins when this is opened
	limits string // a group of cgroup v1 that bounds it, "" if systemd does
}

const (
	hungry = "hungry.service"
	has    = 24 << 20
	// wants is little more: a page that was gone for longer than what there is room for
	// is no part of the working set, and no shortage (workingset.c in the kernel's mm).
	wants = 32 << 20
)

func newShortage(h *harness.Host) *shortage {
	h.Helper()
	root := h.M.Root()
	if text := root.Must(h.T, "cat", "/sys/fs/cgroup/memory.pressure"); !strings.Contains(text, "some avg10=") {
		h.Skipf("the kernel does not tell: %s", text)
	}
	s := &shortage{Host: h, gate: "/run/hungry"}
	app, pages := installApp(h), "/var/tmp/pages"
	root.Must(h.T, "sh", "-c", fmt.Sprintf("rm -f %s; mkfifo %[1]s; head -c %d /dev/zero >%s; sync %[3]s", s.gate, wants, pages))
	run := []string{"systemd-run", "--quiet", "--collect", "--unit=" + hungry}
	controllers := strings.Fields(root.Must(h.T, "cat", "/sys/fs/cgroup/cgroup.controllers"))
	if slices.Contains(controllers, "memory") {
		run = append(run, fmt.Sprintf("--property=MemoryMax=%d", has), "--property=MemorySwapMax=0")
	}
	root.Must(h.T, append(run, "sh", "-c", "read go <"+s.gate+"; exec "+app+" -thrash "+pages)...)
	h.Cleanup(s.end)
	if !slices.Contains(controllers, "memory") {
		s.bound()
	}
	return s
}

// bound has cgroup v1 bound the process, on a host whose unified hierarchy has no
// controllers.
func (s *shortage) bound() {
	s.Helper()
	group, err := s.M.Root().Show(s.Context(), hungry, "ControlGroup")
	if err != nil {
		s.Fatal(err)
	}
	processes, err := os.ReadFile(s.M.Host("/sys/fs/cgroup" + group + "/cgroup.procs")) // as the host numbers them
	if err != nil {
		s.Fatal(err)
	}
	s.limits = filepath.Join("/sys/fs/cgroup/memory", fmt.Sprintf("zerolet-test-%d", os.Getpid()))
	if err := os.Mkdir(s.limits, 0o755); err != nil {
		s.Skipf("nothing bounds memory here: %v", err)
	}
	write := func(file, text string) {
		s.Helper()
		if err := os.WriteFile(filepath.Join(s.limits, file), []byte(text), 0); err != nil {
			s.Fatal(err)
		}
	}
	write("memory.limit_in_bytes", fmt.Sprint(has))
	for pid := range bytes.FieldsSeq(processes) {
		write("cgroup.procs", string(pid))
	}
}

func (s *shortage) begin() { s.Helper(); s.M.Root().Must(s.T, "sh", "-c", "echo >"+s.gate) }

func (s *shortage) end() {
	_, _ = s.M.Root().Systemctl(context.WithoutCancel(s.Context()), "stop", hungry) // or it has ended before
	if s.limits != "" {
		if err := os.Remove(s.limits); err != nil && !os.IsNotExist(err) {
			s.Error(err)
		}
	}
}
