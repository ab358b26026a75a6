package proxy

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/sock"
	"github.com/zerolet/zerolet/proxy/wire"
)

// proxyHeader tells an app who its client is, before the client's own bytes:
// the PROXY protocol of HAProxy (doc/proxy-protocol.txt there), of version 1 or
// 2. Of the proxy's own connections it says that there is no client, and also of
// those from a unix socket: they have no address, and HAProxy 3.0 closes what
// says AF_UNIX.
func proxyHeader(version int, client, local wire.Address) []byte {
	v4 := client.IP.Addr().Is4()
	known := client.IP.IsValid() && local.IP.IsValid() && v4 == local.IP.Addr().Is4()
	if version == 1 {
		switch {
		case !known:
			return []byte("PROXY UNKNOWN\r\n")
		case v4:
			return proxyLine("TCP4", client, local)
		default:
			return proxyLine("TCP6", client, local)
		}
	}
	const (
		signature      = "\r\n\r\n\x00\r\nQUIT\n"
		local2, proxy2 = 0x20, 0x21 // version 2, and the command
		tcp4, tcp6     = 0x11, 0x21
	)
	command, family := byte(proxy2), byte(tcp4)
	var addresses []byte
	switch {
	case known:
		if !v4 {
			family = tcp6
		}
		addresses = append(client.IP.Addr().AsSlice(), local.IP.Addr().AsSlice()...)
		addresses = binary.BigEndian.AppendUint16(addresses, client.IP.Port())
		addresses = binary.BigEndian.AppendUint16(addresses, local.IP.Port())
	default:
		command, family = local2, 0
	}
	header := append([]byte(signature), command, family)
	header = binary.BigEndian.AppendUint16(header, uint16(len(addresses)))
	return append(header, addresses...)
}

func proxyLine(family string, client, local wire.Address) []byte {
	return fmt.Appendf(nil, "PROXY %s %s %s %d %d\r\n", family,
		client.IP.Addr().WithZone(""), local.IP.Addr().WithZone(""), client.IP.Port(), local.IP.Port())
}

// introduce sends the client's header to a new backend. It is no byte of the
// client's: another backend gets one of its own.
func (c *connection) introduce(backend *sock.Socket) {
	if c.cfg.ProxyProtocol == 0 {
		return
	}
	sa, _ := unix.Getsockname(c.client.FD) // unknown without it
	sendHeader(backend, proxyHeader(c.cfg.ProxyProtocol, c.peer, sock.Address(c.peer.Network, sa)))
}

// sendHeader is the first to write to the backend, which has room for it
// (tcp(7): 4 kB and more). If it fails, so will the connection.
func sendHeader(backend *sock.Socket, header []byte) {
	n, err := unix.Write(backend.FD, header)
	if err == nil && n < len(header) {
		err = unix.ECONNRESET
	}
	if err != nil {
		backend.Failed(err)
		_ = unix.Shutdown(backend.FD, unix.SHUT_RDWR) // half a header must not be followed
	}
}
