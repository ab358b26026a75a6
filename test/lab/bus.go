package lab

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// ask asks the manager itself for a property of a unit. Tests wait for states, and would keep a processor busy with
// nothing but systemctl, for which each time three programs start and the manager tells of some hundred properties.
// It is not known if the manager does not answer, and if systemctl would print the value in a way of its own.
func (s *Session) ask(ctx context.Context, unit, property string) (value string, known bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	socket, err := s.dialBus(ctx)
	if err != nil {
		return "", false
	}
	defer context.AfterFunc(ctx, func() { _ = socket.Close() })()
	conn, err := dbus.NewConn(socket, dbus.WithContext(ctx))
	if err != nil {
		_ = socket.Close()
		return "", false
	}
	defer func() { _ = conn.Close() }() // nothing was written that could be lost
	if conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(s.uid))}) != nil || conn.Hello() != nil {
		return "", false
	}
	path := "/org/freedesktop/systemd1/unit/" + systemd.PathBusEscape(unit)
	object := conn.Object("org.freedesktop.systemd1", dbus.ObjectPath(path))
	for _, kind := range []string{"Unit", kindOf(unit)} {
		var variant dbus.Variant
		get := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, "org.freedesktop.systemd1."+kind, property)
		if get.Store(&variant) != nil {
			continue // not of this kind, or no answer
		}
		switch v := variant.Value().(type) {
		case string:
			return v, true
		case []byte: // InvocationID
			return hex.EncodeToString(v), true
		}
	}
	return "", false
}

// dialBus connects to the bus as the session's user, who alone is let in. The manager's own socket, where systemctl
// knocks, is for processes inside: of others it does not see which they are (getpeercred() in systemd's socket-util.c).
func (s *Session) dialBus(ctx context.Context) (conn net.Conn, err error) {
	dir, name := "/run/dbus", "system_bus_socket"
	if s.UserManager {
		dir, name = s.RuntimeDir, "bus"
	}
	at, err := unix.Open(s.machine.Host(dir), unix.O_PATH|unix.O_CLOEXEC, 0) // the user may not look into the machine
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine and nobody else becomes the user.
		runtime.LockOSThread()
		const same = ^uintptr(0)
		if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(s.uid), same); err != 0 {
			done <- fmt.Errorf("lab: setresuid: %w", err)
			return
		}
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", at, name))
		done <- err
	}()
	err = <-done
	return conn, err
}

// kindOf is a unit's kind as its interface on the bus is named.
func kindOf(unit string) string {
	kind := strings.TrimPrefix(filepath.Ext(unit), ".")
	if kind == "" {
		return "Service"
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}
