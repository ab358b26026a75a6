package reliability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/zerolet/zerolet/test/harness"
)

const mib = 1 << 20

// The kernel is out of memory, and kills the frozen app. Nothing starts the container anew before somebody comes.
func outOfMemoryWhileFrozen(h *harness.Host, _ string) {
	m := limitMemory(h, 64*mib)
	m.exhaust()
	killed(h)
	m.hasKilled()
}

// The same when the app wants more than it may have as soon as it is thawed: who wanted it is lost as in any app that
// dies, and the next client is served.
func outOfMemoryAtThaw(h *harness.Host, id string) {
	m := limitMemory(h, 64*mib)
	if _, err := h.GetPath(fmt.Sprintf("/need?n=%d", 256*mib)); err == nil {
		h.Error("an answer by an app that has been killed")
	}
	m.hasKilled()
	if now := h.MustGet(); now == id {
		h.Error("the app that has been killed answers")
	}
}

// memoryLimit is a bound for what the app of a container has in memory from now on: one of the kernel's that kills.
type memoryLimit struct {
	h      *harness.Host
	pid    string // of the app
	dir    string // of the cgroup
	legacy bool   // that is one of version 1
	events string // where the kernel counts whom it has killed
	before string // what is there
}

// limitMemory bounds it in the container's own cgroup. Where the host counts memory in cgroups of version 1, none of
// which a machine has, the app is moved to one of those, beside its own of version 2.
func limitMemory(h *harness.Host, bytes int) *memoryLimit {
	h.Helper()
	unit := h.M.Host(h.Cgroup("app.service"))
	m := &memoryLimit{h: h, pid: appPID(h, unit+"/libpod-payload-*")}
	m.write("/proc/"+m.pid+"/oom_score_adj", "1000")               // it, and not who is in there with it
	own, _ := filepath.Glob(unit + "/libpod-payload-*/memory.max") // no error for this pattern
	const legacy = "/sys/fs/cgroup/memory"
	_, err := os.Stat(legacy + "/memory.limit_in_bytes")
	switch {
	case len(own) > 0:
		m.dir = filepath.Dir(own[0])
		m.events = filepath.Dir(unit) + "/memory.events" // which counts for all below, and outlives them
		m.write(own[0], fmt.Sprint(bytes))
	case err != nil:
		h.Skip("nothing on this host bounds the memory of a container")
	default:
		m.legacy = true
		if m.dir, err = os.MkdirTemp(legacy, "zerolet-test-"); err != nil {
			h.Fatal(err)
		}
		h.Cleanup(m.remove)
		m.events = m.dir + "/memory.oom_control"
		m.write(m.dir+"/memory.limit_in_bytes", fmt.Sprint(bytes))
		m.write(m.dir+"/cgroup.procs", m.pid)
	}
	m.before = m.kills()
	return m
}

// appPID is the container's one process as the host counts it, in the container's cgroup or in one below.
func appPID(h *harness.Host, payload string) string {
	h.Helper()
	for _, pattern := range []string{"/cgroup.procs", "/*/cgroup.procs"} {
		files, _ := filepath.Glob(payload + pattern) // no error for this pattern
		for _, file := range files {
			text, err := os.ReadFile(file)
			if pids := strings.Fields(string(text)); err == nil && len(pids) > 0 {
				return pids[0]
			}
		}
	}
	h.Fatal("the container has no process")
	return ""
}

func (m *memoryLimit) write(path, value string) {
	m.h.Helper()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		m.h.Fatal(err)
	}
}

func (m *memoryLimit) remove() {
	m.h.Wait("nobody is in the group any more", func() bool { return os.Remove(m.dir) == nil })
}

// exhaust leaves no memory to the app: somebody else in the group takes all, or there is no more.
func (m *memoryLimit) exhaust() {
	m.h.Helper()
	if !m.legacy {
		m.write(m.dir+"/memory.max", fmt.Sprint(mib))
		return
	}
	// When the app has been killed it has the rest, and is killed itself.
	hog := exec.Command("sh", "-c", `echo $$ >"$1"/cgroup.procs && exec tail /dev/zero`, "sh", m.dir)
	if err := hog.Run(); err == nil || hog.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		m.h.Fatalf("who takes all memory: %v", err)
	}
}

// hasKilled waits until the kernel has killed the app for want of memory, and nothing is left of it.
func (m *memoryLimit) hasKilled() {
	m.h.Helper()
	m.h.Wait("the kernel has killed the app", func() bool {
		_, err := os.Stat("/proc/" + m.pid)
		return err != nil && m.kills() != m.before
	}, "app.service")
}

// kills is how many the kernel has killed so far.
func (m *memoryLimit) kills() string {
	m.h.Helper()
	text, err := os.ReadFile(m.events)
	if err != nil {
		m.h.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "oom_kill ")
	n, _, _ := strings.Cut(rest, "\n")
	return n
}
