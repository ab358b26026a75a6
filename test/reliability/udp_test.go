package reliability

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Datagrams come at random moments around the idle time, of clients in turns. Each
// is sent once and answered once, and the app knows whose it is. An answer that takes
// longer than the idle time is lost, which on a busy machine must not be short.
func TestDatagramsAtIdleEdge(t *testing.T) {
	idle, rounds := 3*time.Second, 10
	if *soak {
		idle, rounds = 300*time.Millisecond, 300
	}
	t.Parallel()
	harness.EachAtOnce(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-udp :80", h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout="+idle.String())
		var clients []harness.UDPClient
		for _, client := range lab.Outside() { // pasta gives the machine's own to the container
			clients = append(clients, h.DialUDPAs(client, h.Port))
		}
		starts := make(map[string]bool)
		for i := range rounds {
			c := clients[rand.N(len(clients))]
			c.Say(fmt.Sprint(i))
			id, _, peer := c.TalliedPeer(fmt.Sprint(i))
			starts[id] = true
			if is := c.LocalAddr().String(); peer != is {
				t.Errorf("the app has seen %s as %s", is, peer)
			}
			time.Sleep(idle - 50*time.Millisecond + rand.N(200*time.Millisecond)) // the load, not a wait
		}
		t.Logf("%d starts for %d datagrams", len(starts), rounds)
		h.Asleep()
	})
}

// The container is killed under a client. What the client says to the next one is
// answered by that, although its flow through NAT leads to the old one. A neighbour keeps the network, and with it those flows, as they are.
func TestContainerKilledUnderDatagrams(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-udp :80", h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1h")
		h.Must(t, "podman", "run", "--detach", "--rm", "--name=neighbour", "localhost/app", "-http", ":80")
		c := h.DialUDP("127.0.0.1", h.Port)
		c.Say("before")
		first, _ := c.Tallied("before")
		pid := containerPID(h)
		h.Must(t, "kill", "-9", pid)
		// As root, what comes while Podman takes the network down may be lost:
		// the flow leads nowhere, and nobody is told.
		h.Wait("there is another container", func() bool {
			out, err := h.Session.Run(t.Context(), "podman", "inspect", "--format", "{{.State.Pid}}", "systemd-app")
			now := strings.TrimSpace(out.Stdout)
			return err == nil && now != "0" && now != pid
		})
		const n = 10
		for i := range n {
			c.Say(fmt.Sprint(i))
		}
		for i := range n {
			if id, number := c.Tallied(fmt.Sprint(i)); id == first || number != fmt.Sprint(i+1) {
				t.Errorf("datagram %d was number %s of %s", i, number, id)
			}
		}
		h.Must(t, "podman", "rm", "--force", "--time=0", "neighbour")
		sleepNow(h)
		h.Asleep()
	})
}
