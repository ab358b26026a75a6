package service

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
)

// Listener is a listening socket: its address, or its path, and its kind as
// systemd names it.
type Listener struct {
	Address string
	Kind    string // Stream or Datagram
}

// parseListener reads a value of the property Listen=: "[::]:8080 (Stream)".
func parseListener(value string) (Listener, bool) {
	address, kind, ok := strings.Cut(value, " (")
	if a, err := netip.ParseAddrPort(address); err == nil {
		address = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).String()
	}
	return Listener{address, strings.TrimSuffix(kind, ")")}, ok
}

func (l Listener) String() string {
	if l.Kind == "Stream" {
		return l.Address
	}
	return l.Address + " (" + l.Kind + ")"
}

// Listening are the sockets that the kernel has for the manager's user. systemd
// says that a socket is active also when it does not listen any more because
// its file or its port has changed.
func Listening(m systemd.Manager) (map[Listener]bool, error) {
	owner := 0
	if m.User {
		owner = m.UID
	}
	found := make(map[Listener]bool)
	for _, table := range []struct{ path, kind, state string }{
		{"/proc/net/tcp", "Stream", "0A"}, // TCP_LISTEN
		{"/proc/net/tcp6", "Stream", "0A"},
		{"/proc/net/udp", "Datagram", "07"}, // not connected
		{"/proc/net/udp6", "Datagram", "07"},
	} {
		err := eachLine(table.path, func(fields []string) {
			// sl local_address remote_address st tx:rx tr:when retrnsmt uid (proc_net_tcp(5))
			if len(fields) < 8 || fields[3] != table.state || fields[7] != strconv.Itoa(owner) {
				return
			}
			if a, ok := kernelAddress(fields[1]); ok {
				found[Listener{a.String(), table.kind}] = true
			}
		})
		if err != nil {
			return nil, err
		}
	}
	sockets, err := unixSockets()
	for _, s := range sockets {
		if (s.owner == int64(owner) || s.owner == -1) && s.isThere() {
			found[s.Listener] = true
		}
	}
	return found, err
}

// Excludes reports whether only one of the two can have its address.
func (l Listener) Excludes(f generator.Forward) bool {
	kind := "Stream"
	if f.Listen.Protocol == "udp" {
		kind = "Datagram"
	}
	a, err := netip.ParseAddrPort(l.Address)
	if err != nil || f.Listen.HostPath != "" {
		return l.Address == f.Listen.HostFile
	}
	host := f.Listen.Host
	return l.Kind == kind && a.Port() == f.Listen.HostPort &&
		(!host.IsValid() || host.IsUnspecified() || a.Addr().IsUnspecified() || host == a.Addr())
}

func eachLine(path string, f func(fields []string)) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // no IPv6
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		f(strings.Fields(lines.Text()))
	}
}

// kernelAddress reads an address of /proc/net: words of 32 bits in the order of
// the machine's bytes, then the port.
func kernelAddress(text string) (netip.AddrPort, bool) {
	ip, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(ip)
	n, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n)), ok
}
