package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
)

// way is how to come to a listening socket.
type way struct {
	network string
	from    netip.Addr // of this machine; the zero address: any
	to      string
}

// ways lead to the sockets from addresses that may connect. A connection tells
// more than a datagram: it comes first.
func ways(s *service.Service, own []netip.Addr) []way {
	var streams, datagrams []way
	allowed, limited := s.Allowed()
	for _, l := range s.Listens() {
		for _, w := range waysTo(l, own, allowed, limited) {
			if l.Kind == "Stream" {
				streams = append(streams, w)
			} else {
				datagrams = append(datagrams, w)
			}
		}
	}
	return append(streams, datagrams...)
}

func waysTo(l service.Listener, own []netip.Addr, allowed []netip.Prefix, limited bool) []way {
	if strings.HasPrefix(l.Address, "/") {
		return []way{{"unix", netip.Addr{}, l.Address}} // it has its mode
	}
	network := map[string]string{"Stream": "tcp", "Datagram": "udp"}[l.Kind]
	at, err := netip.ParseAddrPort(l.Address)
	if err != nil || network == "" {
		return nil
	}
	if !limited {
		return []way{{network, netip.Addr{}, l.Address}} // an unspecified address is this host
	}
	var all []way
	for _, a := range own {
		may := slices.ContainsFunc(allowed, func(p netip.Prefix) bool { return p.Contains(a) })
		switch {
		case !may:
		case at.Addr().IsUnspecified():
			all = append(all, way{network, a, netip.AddrPortFrom(a, at.Port()).String()})
		case at.Addr().Is4() == a.Is4():
			all = append(all, way{network, a, l.Address})
		}
	}
	return all
}

// ownAddresses are those of this machine, but for those that need a zone.
func ownAddresses() []netip.Addr {
	var own []netip.Addr
	all, _ := net.InterfaceAddrs() // none will do
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
			own = append(own, p.Addr())
		}
	}
	return own
}

// client is one that waits to be let through.
type client struct {
	news       chan struct{} // one of the others is closed
	nowhere    chan struct{} // closed when none of the ways leads to a socket
	turnedAway chan struct{} // closed when the other side has reset it
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// connect goes the first way that leads to a socket, and says nothing there: of a
// datagram that is an empty one.
func connect(ctx context.Context, ways []way) (client, func()) {
	c := client{make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
	ctx, leave := context.WithCancel(ctx)
	go func() {
		for _, w := range ways {
			if conn, err := w.dial(ctx); err == nil {
				c.wait(ctx, conn)
				return
			}
		}
		if ctx.Err() == nil {
			close(c.nowhere)
			c.news <- struct{}{}
		}
	}()
	return c, leave
}

// wait holds the connection until ctx ends, or the other side ends it.
func (c client) wait(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	defer func() { _ = conn.Close() }()
	if _, datagrams := conn.(*net.UDPConn); datagrams {
		<-ctx.Done()
		return
	}
	_, err := io.Copy(io.Discard, conn) // an app may speak first
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		close(c.turnedAway)
		c.news <- struct{}{}
	}
}

func (w way) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	switch {
	case !w.from.IsValid():
	case w.network == "tcp":
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.from, 0))
	default:
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.from, 0))
	}
	conn, err := d.DialContext(ctx, w.network, w.to)
	if err != nil || w.network != "udp" {
		return conn, err
	}
	if _, err := conn.Write(nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
