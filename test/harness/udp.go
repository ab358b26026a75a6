package harness

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// UDPClient takes answers from the address that it asks only, and says each
// thing once: nothing is sent again.
type UDPClient struct {
	net.Conn
	h *Host
}

// DialUDP is a client of a port of the machine.
func (h *Host) DialUDP(host string, port int) UDPClient {
	h.Helper()
	return h.udpClient(nil, host, port)
}

// DialUDPFrom is one that has an address of the machine's.
func (h *Host) DialUDPFrom(source, host string, port int) UDPClient {
	h.Helper()
	return h.udpClient(net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0)), host, port)
}

// DialUDPAs is a client with an address of the machine's or of [lab.Outside].
func (h *Host) DialUDPAs(client netip.Addr, port int) UDPClient {
	h.Helper()
	c, err := h.M.DialFrom(h.Context(), "udp", netip.AddrPortFrom(client, 0), uint16(port))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	return UDPClient{c, h}
}

func (h *Host) udpClient(source net.Addr, host string, port int) UDPClient {
	h.Helper()
	var c net.Conn
	err := h.M.Network(func() (err error) {
		d := net.Dialer{LocalAddr: source}
		c, err = d.DialContext(h.Context(), "udp", net.JoinHostPort(host, fmt.Sprint(port)))
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	return UDPClient{c, h}
}

// Say sends a datagram.
func (c UDPClient) Say(text string) {
	c.h.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.h.Fatal(err)
	}
}

// Hear is the next answer.
func (c UDPClient) Hear() string {
	c.h.Helper()
	text, err := c.HearWithin(Patience)
	if err != nil {
		c.h.Fatalf("no answer: %v\n%s", err, c.h.LastJournal())
	}
	return text
}

// Ask says it until there is an answer, as clients of UDP do: the container may stop
// before its app has answered.
func (c UDPClient) Ask(text string) string {
	c.h.Helper()
	for deadline := time.Now().Add(Patience); ; {
		c.Say(text)
		answer, err := c.HearWithin(5 * time.Second)
		switch {
		case err == nil:
			return answer
		case time.Now().After(deadline):
			c.h.Fatalf("no answer: %v\n%s", err, c.h.LastJournal())
		}
	}
}

// HearWithin is the next answer, if it comes in time.
func (c UDPClient) HearWithin(limit time.Duration) (string, error) {
	buf := make([]byte, 1<<16)
	_ = c.SetReadDeadline(time.Now().Add(limit))
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// Tallied is an answer of "app -udp" to what was said: the start that gave it,
// and which of that start's it is.
func (c UDPClient) Tallied(said string) (id, number string) {
	c.h.Helper()
	id, number, _ = c.TalliedPeer(said)
	return id, number
}

// TalliedPeer is Tallied, with whom the app has seen.
func (c UDPClient) TalliedPeer(said string) (id, number, peer string) {
	c.h.Helper()
	words := strings.SplitN(c.Hear(), " ", 4)
	if len(words) != 4 || words[3] != said {
		c.h.Fatalf("the answer to %q is %q\n%s", said, words, c.h.LastJournal())
	}
	return words[0], words[1], words[2]
}
