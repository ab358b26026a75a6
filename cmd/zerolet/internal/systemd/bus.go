package systemd

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/godbus/dbus/v5"
)

// Names on the bus (org.freedesktop.systemd1(5)).
const (
	destination = "org.freedesktop.systemd1"
	object      = dbus.ObjectPath("/org/freedesktop/systemd1")
	unitObjects = object + "/unit"
	properties  = "org.freedesktop.DBus.Properties"
)

// Bus is a connection to a manager. systemctl asks for every property of a unit
// and each has a few hundred: 1,000 units cost it 0.6 s and the manager 1.5 s
// (tried on systemd 257). Here only those are asked that are wanted, all at the
// same time.
type Bus struct {
	conn *dbus.Conn
	wire *wire // nil: by the bus of the system
}

// Connect is the way that systemctl goes, too: to the manager itself, or to the
// system's by the bus of the system for who is not root.
func (m Manager) Connect(ctx context.Context) (*Bus, error) {
	if !m.User && m.UID != 0 {
		conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
		return &Bus{conn: conn}, err
	}
	socket := "/run/systemd/private"
	if m.User {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			return nil, errors.New("$XDG_RUNTIME_DIR is not set")
		}
		socket = filepath.Join(dir, "systemd/private")
	}
	direct, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	w := &wire{Conn: direct, in: bufio.NewReaderSize(direct, 64<<10)}
	conn, err := dbus.NewConn(w, dbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, direct.Close())
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	b := &Bus{conn, w}
	return b, b.begin(ctx)
}

// wire has many questions written at once, and many answers read at once: else
// half of the time that they take is that of system calls.
type wire struct {
	net.Conn
	in *bufio.Reader

	mu   sync.Mutex
	hold bool
	out  []byte
}

func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hold {
		w.out = append(w.out, p...)
		return len(p), nil
	}
	return w.Conn.Write(p)
}

// together writes at once what f sends.
func (b *Bus) together(f func()) error {
	if b.wire == nil {
		f()
		return nil
	}
	b.wire.keep()
	f()
	return b.wire.send()
}

// keep has what is written wait until send.
func (w *wire) keep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hold = true
}

func (w *wire) send() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.out
	w.hold, w.out = false, nil
	_, err := w.Conn.Write(out)
	return err
}

// begin gets an answer. The manager reads up to 256 bytes while it checks who is
// there. What comes along with the last of them it does not look at before more
// has come (bus_socket_read_auth in systemd's bus-socket.c): a single short
// question would wait for ever.
func (b *Bus) begin(ctx context.Context) error {
	var pings []*dbus.Call
	for range 4 { // of more than 100 bytes each
		ping := b.conn.Object(destination, object).GoWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, nil)
		pings = append(pings, ping)
	}
	var err error
	for _, ping := range pings {
		<-ping.Done
		err = errors.Join(err, ping.Err)
	}
	return err
}

// Close ends the connection.
func (b *Bus) Close() { _ = b.conn.Close() } // nothing was written that could be lost

// Loaded are the units in memory by their names, each as a list of units shows
// it.
func (b *Bus) Loaded(ctx context.Context) (map[string]Unit, error) {
	var listed []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            dbus.ObjectPath
		Job                                             uint32
		JobType                                         string
		JobPath                                         dbus.ObjectPath
	}
	err := b.conn.Object(destination, object).CallWithContext(ctx, destination+".Manager.ListUnits", 0).Store(&listed)
	if err != nil {
		return nil, err
	}
	units := make(map[string]Unit, len(listed))
	for _, l := range listed {
		units[l.Name] = Unit{
			"Id": l.Name, "Description": l.Description,
			"LoadState": l.Load, "ActiveState": l.Active, "SubState": l.Sub, "Job": fmt.Sprint(l.Job),
		}
	}
	return units, nil
}

// UnitPath are the directories in which the manager looks for units.
func (b *Bus) UnitPath(ctx context.Context) (dirs []string, err error) {
	err = b.conn.Object(destination, object).
		CallWithContext(ctx, properties+".Get", 0, destination+".Manager", "UnitPath").Store(&dirs)
	return dirs, err
}

// Wanted are properties of a unit. The unit is loaded if it is not in memory.
type Wanted struct {
	Name       string
	Properties []string
	Into       Unit
}

// Fill asks for all that is wanted, and then waits for the answers. What a unit
// has not stays "".
func (b *Bus) Fill(ctx context.Context, wanted []Wanted) error {
	type asked struct {
		call     *dbus.Call
		into     Unit
		property string
	}
	var all []asked
	err := b.together(func() {
		for _, w := range wanted {
			unit := b.conn.Object(destination, objectOf(w.Name))
			for _, p := range w.Properties {
				call := unit.Go(properties+".Get", 0, nil, interfaceOf(w.Name, p), p)
				all = append(all, asked{call, w.Into, p})
			}
		}
	})
	if err != nil {
		return err
	}
	for _, a := range all {
		<-a.call.Done
		var value dbus.Variant
		if err := a.call.Store(&value); err != nil {
			if refused := new(dbus.Error); errors.As(err, refused) {
				continue // of another kind, or of an older systemd
			}
			return err
		}
		a.into[a.property] = text(a.property, value.Value())
	}
	return ctx.Err()
}

// Changes tells that something about one of the units has changed. Several
// changes may be told as one.
func (b *Bus) Changes(ctx context.Context, names ...string) <-chan struct{} {
	signals := b.signals(ctx, dbus.WithMatchInterface(properties), dbus.WithMatchPathNamespace(unitObjects))
	paths := make(map[dbus.ObjectPath]bool)
	for _, name := range names {
		paths[objectOf(name)] = true
	}
	changed := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s, open := <-signals:
				if !open {
					return
				}
				if paths[s.Path] {
					select {
					case changed <- struct{}{}:
					default: // told already
					}
				}
			}
		}
	}()
	return changed
}

// signals are those that match. A direct connection gets every signal; a bus wants
// to know which, and the manager that somebody listens.
func (b *Bus) signals(ctx context.Context, match ...dbus.MatchOption) <-chan *dbus.Signal {
	signals := make(chan *dbus.Signal, 64)
	b.conn.Signal(signals)
	_ = b.conn.AddMatchSignal(match...)
	b.conn.Object(destination, object).GoWithContext(ctx, destination+".Manager.Subscribe", dbus.FlagNoReplyExpected, nil)
	return signals
}

// ping waits for an answer, before which everything has come that was sent
// before.
func (b *Bus) ping(ctx context.Context) error {
	return b.conn.Object(destination, object).CallWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0).Err
}

// objectOf is the object of a unit: what is no letter and no digit is in hex
// (sd_bus_path_encode(3)).
func objectOf(name string) dbus.ObjectPath {
	var b strings.Builder
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if letter || i > 0 && c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return unitObjects + "/" + dbus.ObjectPath(b.String())
}

// ofKind are the properties that are not of every unit, but of one kind.
var ofKind = map[string]bool{
	"Listen": true, "Result": true, "StatusText": true, "MainPID": true, "NRestarts": true, "NextElapseUSecRealtime": true,
	"ExecStart": true, "ExecCondition": true, "ExecStop": true, "ExecMainExitTimestamp": true, "IPAddressAllow": true,
	"TimeoutStartUSec": true, "TimeoutStopUSec": true,
}

func interfaceOf(name, property string) string {
	kind := strings.TrimPrefix(filepath.Ext(name), ".")
	if !ofKind[property] || kind == "" {
		return destination + ".Unit"
	}
	return destination + "." + strings.ToUpper(kind[:1]) + kind[1:]
}

// text is a value as systemctl prints it, but for a list of structures: each is
// a line.
func text(property string, value any) string {
	switch v := value.(type) {
	case bool:
		return map[bool]string{false: "no", true: "yes"}[v]
	case []string:
		return strings.Join(v, " ")
	case []byte: // InvocationID
		return hex.EncodeToString(v)
	case []any: // Job: number, object
		return fmt.Sprint(v[0])
	case [][]any:
		var lines []string
		for _, fields := range v {
			if line, ok := structure(property, fields); ok {
				lines = append(lines, line)
			}
		}
		return strings.Join(lines, "\n")
	}
	return fmt.Sprint(value)
}

// structure is one value of a list of structures, if it says something.
func structure(property string, fields []any) (string, bool) {
	switch property {
	case "Listen": // kind, address
		return fmt.Sprintf("%s (%s)", fields[1], fields[0]), true
	case "ExecStart", "ExecCondition": // path, arguments, ...
		args, ok := fields[1].([]string)
		return strings.Join(args, " "), ok
	case "ExecStop": // path, arguments, ignore, when it started, ...
		return fmt.Sprint(fields[3]), true
	case "IPAddressAllow": // family, address, bits
		raw, ok := fields[1].([]byte)
		a, valid := netip.AddrFromSlice(raw)
		return fmt.Sprintf("%s/%d", a, fields[2]), ok && valid
	case "Conditions", "Asserts": // key, any of several, not, value, how it went
		state, ok := fields[4].(int32)
		not := map[any]string{true: "!"}[fields[2]]
		return fmt.Sprintf("%s=%s%s", fields[0], not, fields[3]), ok && state < 0
	}
	return "", false
}
