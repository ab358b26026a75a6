package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Network calls f on a thread that is inside the machine's network namespace. Sockets that f makes stay
// there for good. f must make them itself, not in goroutines of its own.
func (m *Machine) Network(f func() error) error {
	return inNetwork(fmt.Sprintf("/proc/%d/ns/net", m.Leader()), f)
}

func inNetwork(path string, f func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("lab: network: %w", err)
	}
	defer ns.Close()
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine and nobody else gets the namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("lab: setns: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Dial connects inside the machine's network namespace. A TCP or UDP address must be a literal IP with a
// port. A unix address is a path in the machine.
func (m *Machine) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if strings.HasPrefix(network, "unix") {
		if !strings.HasPrefix(address, "@") {
			address = m.Host(address)
		}
	} else if _, err := netip.ParseAddrPort(address); err != nil {
		// A name would be looked up, and its addresses dialled, by goroutines on the host.
		return nil, fmt.Errorf("lab: dial: %w", err)
	}
	err = m.Network(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HTTP returns a client whose connections are made inside the machine, a new one for each request, with
// no time limit of its own: requests carry a context.
func (m *Machine) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.Dial, DisableKeepAlives: true}}
}
