package system

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// udpClient takes answers from the address that it asks only, and says each
// thing once: nothing is sent again.
type udpClient struct {
	net.Conn
	h *harness.Host
}

func dialUDP(h *harness.Host, host string, port int) udpClient {
	h.Helper()
	c, err := h.M.Dial(h.Context(), "udp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = c.Close() })
	return udpClient{c, h}
}

func (c udpClient) say(text string) {
	c.h.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		c.h.Fatal(err)
	}
}

func (c udpClient) hear() string {
	c.h.Helper()
	buf := make([]byte, 1<<16)
	_ = c.SetReadDeadline(time.Now().Add(harness.Patience))
	n, err := c.Read(buf)
	if err != nil {
		c.h.Fatalf("no answer: %v\n%s", err, c.h.LastJournal())
	}
	return string(buf[:n])
}

// tallied is an answer of "app -udp": the start that gave it, which of that
// start's it is, and what was asked.
func (c udpClient) tallied(want string) (id, number string) {
	c.h.Helper()
	words := strings.SplitN(c.hear(), " ", 3)
	if len(words) != 3 || words[2] != want {
		c.h.Fatalf("the answer to %q is %q\n%s", want, words, c.h.LastJournal())
	}
	return words[0], words[1]
}

// TCP and UDP of one port in one file wake one container, and either keeps it.
func TestDatagrams(t *testing.T) {
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80 -udp :80 -udp-echo :81", h.Publish(), h.Publish()+"/udp",
			fmt.Sprintf("PublishPort=%d:81/udp", h.Port+1000), "[ScaleToZero]", "IdleTimeout=2s")
		c := dialUDP(h, "127.0.0.1", h.Port)
		c.say("cold")
		first, _ := c.tallied("cold")
		if id := strings.TrimSpace(h.MustGet()); id != first {
			t.Errorf("TCP was answered by %s, UDP by %s", id, first)
		}
		large := dialUDP(h, "127.0.0.1", h.Port+1000)
		for _, size := range []int{65507, 0, 1473} {
			text := strings.Repeat("x", size)
			large.say(text)
			if got := large.hear(); got != text {
				t.Errorf("%d bytes came back as %d", size, len(got))
			}
		}
		// A client that is connected hears of no other address.
		for _, host := range []string{"127.0.0.2", "::1"} {
			c := dialUDP(h, host, h.Port)
			c.say(host)
			if id, _ := c.tallied(host); id != first {
				t.Errorf("%s was answered by %s", host, id)
			}
		}
		h.Asleep()
		c.say("again")
		if id, _ := c.tallied("again"); id == first {
			t.Error("the container was not stopped")
		}
		h.Asleep()
	})
}

// What comes before the app is given to it in order, each once.
func TestDatagramsHeld(t *testing.T) {
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-udp :80 -delay 3s", h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1s")
		c := dialUDP(h, "127.0.0.1", h.Port)
		const n = 100
		for i := range n {
			c.say(fmt.Sprint(i))
		}
		for i := range n {
			if _, number := c.tallied(fmt.Sprint(i)); number != fmt.Sprint(i+1) {
				t.Errorf("datagram %d reached the app as number %s", i, number)
			}
		}
		h.Asleep()
	})
}
