package reach

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/wire"
)

// The kernel stops all processes of a cgroup when "1" is written to its
// cgroup.freeze, and lets them go on when "0" is; those that are killed end all the
// same (Documentation/admin-guide/cgroup-v2.rst). Who writes needs no more than the
// file: the user has it, and for root the entry opens it and passes it on, so that
// its proxy can freeze this container and do nothing else.

// payloadPrefix begins the name of the cgroup that Podman makes for a container's
// processes, below that of the unit and beside conmon's (podman-run(1),
// --cgroups=split).
const payloadPrefix = "libpod-payload-"

// errNoPayload says that a unit has no container that can be frozen: ErrNoContainer,
// that it has none at all.
var errNoPayload = errors.New("the container has no cgroup of its own in that of its unit")

// Payload is the cgroup of a container that can be frozen.
type Payload struct {
	dir     string
	freeze  int // descriptors, which are in no poller: a write there may fail with EAGAIN
	reclaim int // -1: there is none
	events  int
}

// Freezer finds the payloads of units.
type Freezer struct {
	units  []string
	own    []string // those in which the app is
	open   func(i int) (*Payload, error)
	cgroup *Cgroup
	entry  *Entry
}

// NewFreezer is nil if nothing is to be frozen. The entry opens the payloads, if there
// is one.
func NewFreezer(cfg wire.Config, e *Entry) *Freezer {
	if len(cfg.Freeze) == 0 {
		return nil
	}
	f := &Freezer{
		units: cfg.Freeze, own: append([]string{cfg.Container}, cfg.Members...),
		cgroup: NewCgroup(cfg.Freeze...), entry: e,
	}
	f.open = f.cgroup.payload
	if e != nil {
		f.open = e.payload
	}
	return f
}

// Rest tells the entry, if there is one, whether it may rest: it has nothing to do
// while its container is frozen, and does not tell systemd every other moment that it
// is there.
func (f *Freezer) Rest(rests bool) {
	if f.entry != nil {
		f.entry.rest(rests)
	}
}

// Open opens the payloads of all units that have one, in their order. The app's must:
// of a pod's containers some may have ended for good, and not all.
func (f *Freezer) Open() (all Payloads, err error) {
	var runs bool
	why := ErrNoContainer
	for i, unit := range f.units {
		isOwn := slices.Contains(f.own, unit)
		p, err := f.open(i)
		switch {
		case err == nil:
			all, runs = append(all, p), runs || isOwn
		case !isAbsent(err):
			all.Close()
			return nil, fmt.Errorf("%s: %w", unit, err)
		case isOwn:
			why = fmt.Errorf("%s: %w", unit, err)
		}
	}
	if !runs {
		all.Close()
		return nil, why
	}
	return all, nil
}

// isAbsent tells that there is nothing to be frozen, or to be thawed.
func isAbsent(err error) bool {
	return errors.Is(err, errNoPayload) || errors.Is(err, ErrNoContainer)
}

// Left reports whether a payload is frozen: somebody has left it so.
func (f *Freezer) Left() bool {
	for i := range f.units {
		dir, err := f.cgroup.payloadDir(i)
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, "cgroup.freeze"))
		if err == nil && bytes.HasPrefix(text, []byte("1")) {
			return true
		}
	}
	return false
}

// Thaw has the containers of units go on, whoever has frozen them, and goes on
// itself where one fails.
func Thaw(units []string) (err error) {
	u := NewCgroup(units...)
	for i := range units {
		p, e := u.payload(i)
		if e == nil {
			e = p.thaw()
			p.close()
		}
		if !isAbsent(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// payloadDir finds the payload of one of the units.
func (u *Cgroup) payloadDir(i int) (string, error) {
	if u.err != nil {
		return "", u.err
	}
	unit := unitDir(u.manager, u.units[i])
	if unit == "" {
		return "", ErrNoContainer
	}
	entries, _ := os.ReadDir(unit) // none if it has gone
	for _, e := range entries {
		dir := filepath.Join(unit, e.Name())
		if e.IsDir() && strings.HasPrefix(e.Name(), payloadPrefix) && isPopulated(dir) {
			return dir, nil
		}
	}
	return "", errNoPayload
}

// isPopulated tells a container from one that has ended, whose cgroup Podman has
// not removed yet.
func isPopulated(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err == nil && field(text, "populated") == 1
}

// payload opens it.
func (u *Cgroup) payload(i int) (*Payload, error) {
	dir, fds, err := u.openPayload(i)
	if err != nil {
		return nil, err
	}
	return newPayload(dir, fds)
}

// openPayload opens what can be written of it: cgroup.freeze, and memory.reclaim
// where the kernel has that.
func (u *Cgroup) openPayload(i int) (dir string, fds []int, err error) {
	if dir, err = u.payloadDir(i); err != nil {
		return "", nil, err
	}
	freeze, err := unix.Open(filepath.Join(dir, "cgroup.freeze"), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: dir + "/cgroup.freeze", Err: err}
	}
	fds = append(fds, freeze)
	if reclaim, err := unix.Open(filepath.Join(memoryDir(dir), "memory.reclaim"), unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		fds = append(fds, reclaim)
	}
	return dir, fds, nil
}

// memoryDir is where the memory of a payload is counted: in the cgroup itself, or
// for all of the unit.
func memoryDir(dir string) string {
	if _, err := os.Stat(filepath.Join(dir, "memory.current")); err != nil {
		return filepath.Dir(dir)
	}
	return dir
}

// newPayload takes over the descriptors that openPayload has opened, here or in
// another process. Everybody may read what happens in a cgroup.
func newPayload(dir string, fds []int) (*Payload, error) {
	p := &Payload{dir: dir, freeze: fds[0], reclaim: -1, events: -1}
	if len(fds) > 1 {
		p.reclaim = fds[1]
	}
	var err error
	if p.events, err = unix.Open(filepath.Join(dir, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		p.close()
		return nil, &os.PathError{Op: "open", Path: dir + "/cgroup.events", Err: err}
	}
	return p, nil
}

func (p *Payload) close() {
	for _, fd := range []int{p.freeze, p.reclaim, p.events} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

func (p *Payload) write(value string) error {
	_, err := unix.Pwrite(p.freeze, []byte(value), 0)
	return os.NewSyscallError("write", err)
}

// thaw does nothing for one that is gone (kernfs: ENODEV).
func (p *Payload) thaw() error {
	if err := p.write("0"); !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// Payloads are those of one proxy.
type Payloads []*Payload

// Close leaves them as they are.
func (all Payloads) Close() {
	for _, p := range all {
		p.close()
	}
}

// Freeze begins to freeze them, in their order: [Payloads.Look] tells when they
// are. Those that a failure leaves frozen are for [Payloads.Thaw].
func (all Payloads) Freeze() error {
	for _, p := range all {
		if err := p.write("1"); err != nil {
			return err
		}
	}
	return nil
}

// Thaw lets them go on, the last one first: the others need it. They do so at once,
// whatever there is to be reclaimed.
func (all Payloads) Thaw() (err error) {
	for _, p := range slices.Backward(all) {
		err = errors.Join(err, p.thaw())
	}
	return err
}

// Events are descriptors with an event, POLLPRI, when what [Payloads.Look] tells
// may have changed since it was last asked (cgroup-v2.rst, cgroup.events).
func (all Payloads) Events() (fds []int) {
	for _, p := range all {
		fds = append(fds, p.events)
	}
	return fds
}

// State is how payloads stand.
type State int

// Of several, the first that one of them is in.
const (
	Ended    State = iota // no process is left
	Thawed                // somebody else has thawed it
	Freezing              // not all processes are frozen: not yet, or one comes or ends
	Frozen
)

// Look tells how they stand.
func (all Payloads) Look() State {
	state := Frozen
	for _, p := range all {
		state = min(state, p.look())
	}
	return state
}

func (p *Payload) look() State {
	var text [256]byte
	n, err := unix.Pread(p.events, text[:], 0)
	if err != nil || field(text[:n], "populated") == 0 { // ENODEV: it is removed
		return Ended
	}
	wanted, err := os.ReadFile(filepath.Join(p.dir, "cgroup.freeze"))
	switch {
	case err != nil:
		return Ended
	case bytes.HasPrefix(wanted, []byte("0")):
		return Thawed
	case field(text[:n], "frozen") == 1:
		return Frozen
	}
	return Freezing
}

// Processes are the pids of all that are in there.
func (all Payloads) Processes() (pids []string) {
	for _, p := range all {
		_ = filepath.WalkDir(p.dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				text, _ := os.ReadFile(filepath.Join(path, "cgroup.procs")) // of one that is gone there are none
				pids = append(pids, strings.Fields(string(text))...)
			}
			return nil
		})
	}
	return pids
}

// field is a number in a file of keys and values.
func field(text []byte, key string) int64 {
	for line := range bytes.Lines(text) {
		if value, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(key+" ")); ok {
			n, _ := strconv.ParseInt(string(value), 10, 64)
			return n
		}
	}
	return 0
}

// Memory is how much they use, 0 where the kernel does not count it for cgroups of
// version 2.
func (all Payloads) Memory() (sum int64) {
	for _, p := range all {
		text, err := os.ReadFile(filepath.Join(memoryDir(p.dir), "memory.current"))
		if err != nil {
			return 0
		}
		n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		sum += n
	}
	return sum
}

// reclaimAtOnce is how much is asked for at a time: who thaws meanwhile does not wait
// for long until the rest is left in peace.
const reclaimAtOnce = 16 << 20

// Reclaim moves what only they have in memory, no file's pages, to where the kernel
// swaps, until there is no more or stop tells to end. It reports whether it could:
// without swap there is nothing to be reclaimed.
func (all Payloads) Reclaim(stop func() bool) (done bool) {
	for _, p := range all {
		left := all.Memory()/reclaimAtOnce + 1 // or it would be for ever if somebody gives it more
		// Files are in memory as long as nobody else needs it, anyhow. The word is
		// known since Linux 6.10 (memory.reclaim in cgroup-v2.rst).
		for words := " swappiness=200"; p.reclaim >= 0 && left > 0 && !stop(); {
			_, err := unix.Write(p.reclaim, []byte(strconv.Itoa(reclaimAtOnce)+words))
			switch {
			case err == unix.EINVAL && words != "":
				words = ""
				continue
			case err == unix.EINTR:
				continue
			case err != nil: // EAGAIN: it was less
				left = 0
			default:
				left--
				done = true
			}
		}
	}
	return done
}

// payload asks the entry for one.
func (h *helper) payload(i int) (*Payload, error) {
	body, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(2*4))
	n, oobn, _, err := h.exchange([]byte{askPayload, byte(i)}, body, rights)
	switch {
	case errors.Is(err, errHelper):
		return nil, err
	case errors.Is(err, unix.ESRCH):
		return nil, ErrNoContainer
	case errors.Is(err, unix.ENOENT):
		return nil, errNoPayload
	case err != nil:
		return nil, errors.New(string(body[:n]))
	}
	fds, err := parseRights(rights[:oobn])
	if err != nil || len(fds) == 0 {
		return nil, fmt.Errorf("%w: no descriptor in its answer", errHelper)
	}
	return newPayload(string(body[:n]), fds)
}

// rest tells an entry.
func (h *helper) rest(rests bool) error {
	request := []byte{askRest, 0}
	if rests {
		request[1] = 1
	}
	_, _, _, err := h.exchange(request, nil, nil)
	return err
}

// rest leaves an entry that is gone to who needs the next one.
func (n *namespace) rest(rests bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.helper == nil {
		return
	}
	if err := n.helper.rest(rests); errors.Is(err, errHelper) {
		_ = n.broken(err)
	}
}

// payload is the entry's answer.
func (i *inside) payload(n int) error {
	dir, fds, err := "", []int(nil), errNoPayload
	if n < len(i.frozen.units) {
		dir, fds, err = i.frozen.openPayload(n)
	}
	defer closeFDs(fds)
	switch {
	case errors.Is(err, ErrNoContainer):
		return reply(unix.ESRCH, nil, nil)
	case errors.Is(err, errNoPayload):
		return reply(unix.ENOENT, nil, nil)
	case err != nil:
		return reply(unix.EPERM, []byte(err.Error()), nil)
	}
	return reply(nil, []byte(dir), fds)
}
