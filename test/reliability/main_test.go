// Package reliability tests in the lab that nothing is lost and nothing stays
// dead. Every fault and race of docs/internals/reliability.md is a test here, as root
// and as the rootless user; what is random or takes minutes runs with -soak.
package reliability

import (
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

var (
	soak  = flag.Bool("soak", false, "run what takes minutes, too")
	seed  = flag.Uint64("seed", 0, "seed of the random times; 0: another one each time")
	count = flag.Int("wakes", 4000, "wakes in all with -soak, of units that run the app itself; Podman does a tenth")
	limit = flag.Duration("limit", 6*time.Minute, "end the wakes after this long, whatever their number")
)

func TestMain(m *testing.M) { harness.Main(m) }

// each runs a test as root and as the user on a machine of its own, beside
// other tests.
func each(t *testing.T, test func(t *testing.T, h *harness.Host)) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), test)
}

// dropIn adds to a unit. It counts from the next daemon-reload on.
func dropIn(h *harness.Host, unit string, lines ...string) {
	h.Helper()
	h.PutFile(filepath.Join(h.UnitDir, unit+".d", "50-test.conf"), strings.Join(lines, "\n")+"\n")
}

func removeDropIn(h *harness.Host, unit string) {
	h.Helper()
	h.Must(h.T, "rm", filepath.Join(h.UnitDir, unit+".d", "50-test.conf"))
	h.Reload()
}

// gate is a FIFO at which a stage of a service waits.
type gate struct {
	h    *harness.Host
	path string
}

// newGate puts a gate into a stage of a unit, such as ExecStartPre=.
func newGate(h *harness.Host, unit, stage string) gate {
	h.Helper()
	g := gate{h, filepath.Join(h.RuntimeDir, "gate")}
	dropIn(h, unit, "[Service]", stage+g.wait())
	g.shut()
	return g
}

// newStopGate puts a gate before the end of a container, which runs meanwhile.
func newStopGate(h *harness.Host, unit string) gate {
	h.Helper()
	g := gate{h, filepath.Join(h.RuntimeDir, "gate")}
	dropIn(h, unit, "[Service]", "ExecStop=", "ExecStop"+g.wait(), "ExecStop=/usr/bin/podman rm -v -f -i systemd-%N")
	g.shut()
	return g
}

// wait is the value of a stage that waits.
func (g gate) wait() string { return "=-/bin/sh -c 'test ! -p " + g.path + " || cat " + g.path + "'" }

func (g gate) shut() { g.h.Helper(); g.h.Must(g.h.T, "mkfifo", g.path) }

// open lets pass who waits there, or is about to, and everybody after them.
func (g gate) open() {
	g.h.Helper()
	g.h.Must(g.h.T, "sh", "-c", `exec 3>"$1" && rm "$1"`, "sh", g.path)
}

// waitStage waits until a unit is in a stage of starting or stopping.
func waitStage(h *harness.Host, unit, state string) {
	h.Helper()
	h.Wait(unit+" is "+state, func() bool { return h.Property(unit, "SubState") == state }, unit)
}

// waitStartWaits waits until the start of a unit waits for another job.
func waitStartWaits(h *harness.Host, unit string) {
	h.Helper()
	waiting := regexp.MustCompile(regexp.QuoteMeta(unit) + " +start +waiting")
	h.Wait("the start of "+unit+" waits", func() bool {
		out, err := h.Systemctl(h.Context(), "list-jobs", "--no-legend")
		return err == nil && waiting.MatchString(out.Stdout)
	}, unit)
}

// atRest waits until a unit is down and no job is to change that: one that systemd is about to start is inactive,
// too.
func atRest(h *harness.Host, unit string) (state string) {
	h.Helper()
	h.Wait(unit+" is at rest", func() bool {
		job := h.Property(unit, "Job")
		state = h.State(unit)
		return job == "" && (state == "inactive" || state == "failed")
	}, unit)
	return state
}

// stopJournal has journald read nothing until it goes on, as on a slow disk.
func stopJournal(h *harness.Host) (goesOn func()) {
	h.Helper()
	root := h.M.Root()
	pid := strings.TrimSpace(root.Must(h.T, "systemctl", "show", "--property=MainPID", "--value", "systemd-journald.service"))
	root.Must(h.T, "kill", "-STOP", pid)
	return func() { root.Must(h.T, "kill", "-CONT", pid); h.SyncJournal() }
}

// sleepNow is for what stays awake for as long as a test takes.
func sleepNow(h *harness.Host) { h.Helper(); h.Must(h.T, "zerolet", "sleep", "--force", "app") }

// answer is what a request in the background ends with.
type answer struct {
	id  string
	err error
}

func background(h *harness.Host) <-chan answer { return backgroundPath(h, "/") }

func backgroundPath(h *harness.Host, path string) <-chan answer {
	done := make(chan answer, 1)
	go func() {
		id, err := h.GetPath(path)
		done <- answer{id, err}
	}()
	return done
}

func (a answer) must(h *harness.Host) string {
	h.Helper()
	if a.err != nil {
		h.Fatalf("request: %v\n%s", a.err, h.LastJournal())
	}
	return a.id
}

// withEcho are the lines of an app that answers HTTP and, on a second port,
// echoes.
func withEcho(h *harness.Host, idle string) []string {
	return []string{h.Publish(), fmt.Sprintf("PublishPort=%d:81", echoPort(h)), "[ScaleToZero]", "IdleTimeout=" + idle}
}

func echoPort(h *harness.Host) int { return h.Port + 1000 }

// underWay is a connection to the echo that has been answered: something is
// under way until it is closed.
func underWay(h *harness.Host) *net.TCPConn {
	h.Helper()
	c := h.ConnectTo(echoPort(h))
	exchange(h, c, "before")
	return c
}

func exchange(h *harness.Host, c net.Conn, line string) {
	h.Helper()
	got := make([]byte, len(line))
	if _, err := c.Write([]byte(line)); err != nil {
		h.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
		h.Fatalf("read %q, %v; want %q\n%s", got, err, line, h.LastJournal())
	}
}

// abort resets a connection.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// containerPID is the first process of app's container.
func containerPID(h *harness.Host) string {
	h.Helper()
	return h.Must(h.T, "podman", "inspect", "--format", "{{.State.Pid}}", "systemd-app")
}

// waitExit waits until a process is gone. Before, one that has ended connections may have a listener yet.
func waitExit(h *harness.Host, pid string) {
	h.Helper()
	h.Wait("process "+pid+" is gone", func() bool {
		_, err := h.Session.Run(h.Context(), "test", "-e", "/proc/"+strings.TrimSpace(pid))
		return err != nil
	})
}

func contains(h *harness.Host, unit, text string) bool {
	journal, err := h.Journal(h.Context(), unit)
	return err == nil && strings.Contains(journal, text)
}
