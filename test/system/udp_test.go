package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// TCP and UDP of one port in one file wake one container, and either keeps it.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), datagrams)
}

func datagrams(t *testing.T, h *harness.Host) {
	h.App("app", "-http :80 -udp :80 -udp-echo :81", h.Publish(), h.Publish()+"/udp",
		fmt.Sprintf("PublishPort=%d:81/udp", h.Port+1000), "[ScaleToZero]", "IdleTimeout=2s")
	c := h.DialUDP("127.0.0.1", h.Port)
	c.Say("cold")
	c.Tallied("cold")
	held := h.Connect() // it must not sleep between two questions
	c.Say("warm")
	first, _ := c.Tallied("warm")
	if id := strings.TrimSpace(h.MustGet()); id != first {
		t.Errorf("TCP was answered by %s, UDP by %s", id, first)
	}
	large := h.DialUDP("127.0.0.1", h.Port+1000)
	for _, size := range []int{65507, 0, 1473} {
		text := strings.Repeat("x", size)
		large.Say(text)
		if got := large.Hear(); got != text {
			t.Errorf("%d bytes came back as %d", size, len(got))
		}
	}
	// A client that is connected hears of no other address.
	for _, host := range []string{"127.0.0.2", "::1"} {
		c := h.DialUDP(host, h.Port)
		c.Say(host)
		if id, _ := c.Tallied(host); id != first {
			t.Errorf("%s was answered by %s", host, id)
		}
	}
	held.Close()
	h.Asleep()
	c.Say("again")
	if id, _ := c.Tallied("again"); id == first {
		t.Error("the container was not stopped")
	}
	h.Asleep()
}

// What comes before the app is given to it in order, each once.
func TestDatagramsHeld(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-udp :80 -delay 3s", h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.DialUDP("127.0.0.1", h.Port)
		const n = 100
		for i := range n {
			c.Say(fmt.Sprint(i))
		}
		for i := range n {
			if _, number := c.Tallied(fmt.Sprint(i)); number != fmt.Sprint(i+1) {
				t.Errorf("datagram %d reached the app as number %s", i, number)
			}
		}
		h.Asleep()
	})
}
