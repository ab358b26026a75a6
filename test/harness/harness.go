// Package harness is what the tests of zerolet in the lab share: a machine
// with zerolet installed, an endpoint on it, a client. It holds no tests and
// does not know how zerolet works inside.
package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/lab"
)

// Patience bounds every wait for a condition; nothing is timed.
const Patience = 2 * time.Minute

var suite = flag.String("suite", lab.DefaultSuite, "run on this Debian `suite` what names none") // a flag of go test

// scratch is a directory for what is built, removed by [Main].
var scratch = sync.OnceValues(func() (string, error) { // once for each process
	return os.MkdirTemp("", "zerolet-test-")
})

// install is a directory with what "make install" writes. Two packages of
// tests may ask at the same time; the lock keeps the builds apart.
var install = sync.OnceValues(func() (string, error) { // once for each process
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "install")
	out, err := exec.Command("flock", "../../Makefile", "make", "-C", "../..", "install", "DESTDIR="+dir).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("make install: %w\n%s", err, out)
	}
	return dir, nil
})

// Main is the TestMain of a package that calls [Boot] or [Packages]. It ends the
// process. Unless somebody says otherwise by -parallel, as many tests run side by
// side as there may be machines: they wait more than they compute.
func Main(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", fmt.Sprint(lab.Bound())); err != nil {
			panic(err)
		}
	}
	status := m.Run()
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// Boot is a machine with zerolet installed. It ends with the test.
func Boot(t testing.TB, o lab.Options) *lab.Machine {
	t.Helper()
	if o.Suite == "" {
		o.Suite = *suite
	}
	o.Bounded = true
	m := lab.New(t, o)
	Install(t, m)
	return m
}

// Install installs zerolet, anew if it is there.
func Install(t testing.TB, m *lab.Machine) {
	t.Helper()
	dir, err := install()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

// Each runs a test as root and as the rootless user of one machine.
func Each(t *testing.T, m *lab.Machine, test func(t *testing.T, h *Host)) {
	for i, s := range m.Sessions() {
		t.Run(s.Name, func(t *testing.T) { test(t, &Host{t, s, m, 8080 + i}) })
	}
}

// EachAtOnce is [Each] with both managers side by side. Their tests do not wait for
// a turn among parallel ones, as those of T.Parallel do: the machine would be idle
// meanwhile, and those who have their turn may be waiting for a machine.
func EachAtOnce(t *testing.T, m *lab.Machine, test func(t *testing.T, h *Host)) {
	var both sync.WaitGroup
	for i, s := range m.Sessions() {
		both.Go(func() {
			t.Run(s.Name, func(t *testing.T) { test(t, &Host{t, s, m, 8080 + i}) })
		})
	}
	both.Wait()
}

// Host is one manager under test. Both managers share the machine's network,
// so each has a port of its own.
type Host struct {
	*testing.T
	*lab.Session
	M    *lab.Machine
	Port int
}

// App declares NAME.container with the app's image and reloads the manager.
// Lines are added after those of the image; sections may follow.
func (h *Host) App(name, exec string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.Declare(name, append([]string{"Image=" + image, "Exec=" + exec}, lines...)...)
}

// Declare is App with an image of the caller's.
func (h *Host) Declare(name string, lines ...string) {
	h.Helper()
	h.PutFile(name+".container", "[Container]\n"+strings.Join(lines, "\n")+"\n")
	h.Reload()
	if !slices.Contains(lines, "AutoStart=no") {
		// daemon-reload returns before the job of Upholds= is done.
		h.WaitState(wire.Socket.Of(name), "active")
	}
}

// PutFile writes a file, see [lab.Session.Put].
func (h *Host) PutFile(path, text string) {
	h.Helper()
	if err := h.Put(h.Context(), path, text); err != nil {
		h.Fatal(err)
	}
}

// Reload is systemctl daemon-reload.
func (h *Host) Reload() { h.Helper(); h.Control("daemon-reload") }

// Control runs systemctl.
func (h *Host) Control(args ...string) {
	h.Helper()
	if out, err := h.Systemctl(h.Context(), args...); err != nil {
		h.Fatalf("systemctl %s: %v\n%s%s%s", strings.Join(args, " "), err, out.Stdout, out.Stderr, h.LastJournal())
	}
}

// Publish is the line that publishes the app's port 80.
func (h *Host) Publish() string { return fmt.Sprintf("PublishPort=%d:80", h.Port) }

// Addr is the published address.
func (h *Host) Addr() string { return fmt.Sprintf("127.0.0.1:%d", h.Port) }

// Connect dials the published address. As long as the connection is open the
// container stays up, however slow the machine is. What is read from it fails
// rather than waits for ever.
func (h *Host) Connect() *net.TCPConn { h.Helper(); return h.ConnectTo(h.Port) }

// ConnectTo is Connect for another port of the app.
func (h *Host) ConnectTo(port int) *net.TCPConn {
	h.Helper()
	c, err := h.M.Dial(h.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * Patience)) // only a closed one has none
	return c.(*net.TCPConn)
}

// ConnectAs is ConnectTo for a client with an address of the machine's or of [lab.Outside].
func (h *Host) ConnectAs(client netip.Addr, port int) net.Conn {
	h.Helper()
	c, err := h.M.DialFrom(h.Context(), "tcp", netip.AddrPortFrom(client, 0), uint16(port))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(Patience))
	return c
}

// Get answers with what the app says: its start id.
func (h *Host) Get() (string, error) { return h.GetPath("/") }

// GetPath is a GET of any path.
func (h *Host) GetPath(path string) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), Patience)
	defer cancel()
	return h.Request(ctx, path)
}

// Request is a GET that ends with ctx.
func (h *Host) Request(ctx context.Context, path string) (string, error) {
	r, err := h.open(ctx, path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return string(body), err
}

// open is the beginning of an answer.
func (h *Host) open(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.Addr()+path, nil)
	if err != nil {
		return nil, err
	}
	return h.M.HTTP().Do(req) //nolint:gosec // the address is the test's own
}

// MustGet is Get that ends the test when it fails.
func (h *Host) MustGet() string {
	h.Helper()
	id, err := h.Get()
	if err != nil {
		h.Fatalf("request: %v\n%s", err, h.LastJournal())
	}
	return id
}

// LastJournal is the end of the journal, for a failed test.
func (h *Host) LastJournal() string {
	text, err := h.Journal(context.WithoutCancel(h.Context()), "")
	if err != nil {
		return err.Error()
	}
	return text[max(0, len(text)-16000):]
}

// State is a unit's ActiveState.
func (h *Host) State(unit string) string { h.Helper(); return h.Property(unit, "ActiveState") }

// Property is one property of a unit.
func (h *Host) Property(unit, property string) string {
	h.Helper()
	value, err := h.Show(h.Context(), unit, property)
	if err != nil {
		h.Fatal(err)
	}
	return value
}

// Expect fails the test unless the unit is in the state.
func (h *Host) Expect(unit, state string) {
	h.Helper()
	if got := h.State(unit); got != state {
		h.Errorf("%s is %s, want %s\n%s", unit, got, state, h.LastJournal())
	}
}

// Wait waits for a condition.
func (h *Host) Wait(what string, condition func() bool, units ...string) {
	h.Helper()
	h.WaitFor(h.T, Patience, what, func() (bool, error) { return condition(), nil }, units...)
}

// Output is what a command prints, also where it fails: in a condition it is asked again.
func (h *Host) Output(args ...string) string {
	out, _ := h.Session.Run(h.Context(), args...)
	return out.Stdout
}

// WaitJournal waits until the journal has a text about a unit so many times, and fails the test if it has it more often.
// What was written a moment ago may not be there yet.
func (h *Host) WaitJournal(unit, text string, times int) {
	h.Helper()
	count := func() int { journal, _ := h.Journal(h.Context(), unit); return strings.Count(journal, text) }
	h.Wait(fmt.Sprintf("the journal says %q %d times", text, times), func() bool { return count() >= times }, unit)
	if n := count(); n != times {
		h.Errorf("the journal says %q %d times, want %d\n%s", text, n, times, h.LastJournal())
	}
}

// WaitState waits until the unit is in the state.
func (h *Host) WaitState(unit, state string) {
	h.Helper()
	h.Wait(unit+" is "+state, func() bool { return h.State(unit) == state }, unit)
}

// Asleep waits until the idle container app is gone and nothing of it is left.
func (h *Host) Asleep() { h.Helper(); h.AsleepPod("app") }

// AsleepPod is Asleep for a service of any name, which may be a pod with containers
// of these names.
func (h *Host) AsleepPod(name string, members ...string) {
	h.Helper()
	h.WaitState(wire.Proxy.Of(name), "inactive")
	h.WaitState(wire.Container.Of(name), "inactive")
	for _, member := range members {
		h.Expect(wire.Container.Of(member), "inactive")
	}
	h.Expect(wire.Socket.Of(name), "active")
	if len(members) > 0 {
		if left := Pods(h.T, h.Session); left != "" {
			h.Errorf("pods are left: %s", left)
		}
	}
	if left := Containers(h.T, h.Session); left != "" {
		h.Errorf("containers are left: %s", left)
	}
	for _, name := range append(members, name) {
		for _, suffix := range []string{".pid", ".cid", ".pod-id"} {
			if _, err := os.Lstat(h.M.Host(filepath.Join(h.RuntimeDir, name+suffix))); !errors.Is(err, os.ErrNotExist) {
				h.Errorf("%s%s is left: %v", name, suffix, err)
			}
		}
	}
	failed, err := h.M.Failed(h.Context())
	if err != nil {
		h.Error(err)
	}
	for _, unit := range failed {
		if strings.HasPrefix(unit, h.Name+": ") {
			h.Errorf("a failed unit: %s", unit)
		}
	}
}

// Containers are Podman's, but for those in which zerolet keeps what sleeping ones
// use.
func Containers(t testing.TB, s *lab.Session) string {
	t.Helper()
	return others(s.Must(t, "podman", "ps", "--all", "--format", "{{.Names}}"))
}

// Pods are Podman's, but for that of these containers: of two that make it at once the
// later one may have to do without its name.
func Pods(t testing.TB, s *lab.Session) string {
	t.Helper()
	lines := strings.Split(s.Must(t, "podman", "pod", "ps", "--format", "{{.Name}} {{.Labels}}"), "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, wire.KeepersLabel) }), " ")
}

func others(names string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(names), func(name string) bool { return strings.HasPrefix(name, wire.Keepers) }), " ")
}
