package reliability

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// eachOutside is each on a machine with clients around it.
func eachOutside(t *testing.T, test func(t *testing.T, h *harness.Host)) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), test)
}

// reaching is the process that makes sockets inside the container, "" if none
// does: the entry as root, else the proxy's child.
func reaching(h *harness.Host) string {
	h.Helper()
	if !h.UserManager {
		if pid := h.Property("app-entry.service", "MainPID"); pid != "0" {
			return pid
		}
		return ""
	}
	children := strings.Fields(h.Output("pgrep", "--parent", h.Property("app-proxy.service", "MainPID")))
	if len(children) != 1 { // one may be about to take the other's place
		return ""
	}
	return children[0]
}

// waitReaching is reaching once there is one.
func waitReaching(h *harness.Host) (pid string) {
	h.Helper()
	h.Wait("somebody reaches into the container", func() bool { pid = reaching(h); return pid != "" })
	return pid
}

// load is clients of all addresses who ask without a pause.
type load struct {
	boundary
	h   *harness.Host
	end chan struct{}
	all sync.WaitGroup
}

const loadClients = 4

func startLoad(h *harness.Host) *load {
	l := &load{
		boundary: boundary{wakes: new(atomic.Int64), clients: append(lab.Outside(), harness.Clients()...), starts: make(map[string]map[int]bool)},
		h:        h, end: make(chan struct{}),
	}
	for i := range loadClients {
		l.all.Go(func() {
			for n := i; ; n++ {
				select {
				case <-l.end:
					return
				default:
					l.ask(h, l.clients[n%len(l.clients)], h.Port)
				}
			}
		})
	}
	return l
}

// answered waits until so many more requests have ended.
func (l *load) answered(more int) {
	l.h.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.asked
	}
	begin := count()
	l.h.Wait("clients are answered", func() bool { return count() >= begin+more+loadClients })
}

// stop ends it. At most so many requests may have been lost, by those who had
// reached an app that was killed.
func (l *load) stop(what string, lost int) {
	l.h.Helper()
	close(l.end)
	l.all.Wait()
	l.h.Logf("%s: %d requests of %d clients, %d starts: %d lost, %d as somebody else, worst wait %s",
		what, l.asked, loadClients, len(l.starts), len(l.lost), len(l.wrong), l.worst.Round(time.Millisecond))
	if len(l.lost) > lost {
		l.h.Errorf("%s: %d requests of %d were lost: %v\n%s", what, len(l.lost), l.asked, l.lost, l.h.LastJournal())
	}
	for _, err := range l.lost {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			l.h.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range l.wrong[:min(10, len(l.wrong))] {
		l.h.Errorf("%s: %v", what, err)
	}
}

// datagram says something as one of the clients, and fails the test unless the
// app knows who that is.
func datagram(h *harness.Host, c harness.UDPClient, text string) {
	h.Helper()
	c.Say(text)
	if _, _, peer := c.TalliedPeer(text); peer != c.LocalAddr().String() {
		h.Errorf("%s: the app has seen %s as %s", text, c.LocalAddr(), peer)
	}
}

// Who reaches into the container is killed under load, and with it the proxy:
// nobody is lost or taken for somebody else, and what is open goes on.
func TestReachKilled(t *testing.T) {
	eachOutside(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-tally :80 -echo :81 -udp :80", append([]string{h.Publish() + "/udp"}, withEcho(h, "1s")...)...)
		c := underWay(h)
		outside := lab.Outside()
		early := h.DialUDPAs(outside[2], h.Port)
		datagram(h, early, "early")
		l := startLoad(h)
		const kills = 10
		for i := range kills {
			l.answered(20)
			pid := waitReaching(h)
			h.Must(t, "kill", "-KILL", pid)
			datagram(h, early, fmt.Sprintf("%d", i)) // of a session that is open
			late := h.DialUDPAs(outside[i], h.Port)
			datagram(h, late, fmt.Sprintf("late %d", i))
			h.Wait("another one reaches into the container", func() bool { now := reaching(h); return now != "" && now != pid })
		}
		l.stop(fmt.Sprintf("killed %d times", kills), 0)
		if len(l.starts) != 1 {
			t.Errorf("%d containers have answered", len(l.starts))
		}
		exchange(h, c, "still here")
		c.Close()
		h.Asleep()
	})
}

// Who reaches into the container is stopped for good: clients wait for the next
// one.
func TestReachStopped(t *testing.T) {
	eachOutside(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-tally :80 -echo :81", withEcho(h, "1s")...)
		c := underWay(h)
		pid, err := hostPID(h, waitReaching(h))
		if err != nil {
			t.Fatal(err)
		}
		if !freeze(h, pid) {
			t.Fatal("it has ended")
		}
		l := startLoad(h)
		// Those who need it have come when nobody is answered for a second. It had
		// made sockets in advance. If it is given up, nobody waits for it.
		count := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.asked }
		for began, n := time.Now(), 0; time.Since(began) < time.Second && n < 500; {
			if now := count(); now != n {
				began, n = time.Now(), now
			}
			time.Sleep(10 * time.Millisecond) // the measure, not a wait
		}
		l.answered(50)
		l.stop("stopped", 0)
		exchange(h, c, "still here")
		c.Close()
		h.Asleep()
	})
}

// The container is replaced under load, by a restart and by its death: only
// who had reached the old one is lost. That may be a client's next request, too: the
// kernel closes the descriptors of a process that exits from the last one on
// (__fput_deferred and task_work_run), so that its connections end before its listener.
func TestReplacedUnderLoad(t *testing.T) {
	eachOutside(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-tally :80 -udp :80", h.Publish(), h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1h")
		c := h.DialUDPAs(lab.Outside()[9], h.Port)
		datagram(h, c, "before")
		for name, replace := range map[string]func(){
			"restarted": func() { h.Control("restart", "app.service") },
			"killed":    func() { h.Must(t, "kill", "-9", containerPID(h)) },
		} {
			l := startLoad(h)
			const times = 3
			for range times {
				l.answered(20)
				before := h.Property("app.service", "InvocationID")
				replace()
				h.Wait("the container is another", func() bool {
					return h.State("app.service") == "active" && h.Property("app.service", "InvocationID") != before
				}, "app.service")
				l.answered(20)
				datagram(h, c, name)
			}
			l.stop(fmt.Sprintf("%s %d times", name, times), 2*times*loadClients)
			if len(l.starts) < times+1 {
				t.Errorf("%s: %d starts", name, len(l.starts))
			}
		}
		sleepNow(h)
		h.Asleep()
	})
}

// The proxy is killed: rules and routes in the container are as it has left
// them, and the next one's clients are who they are.
func TestProxyKilledInside(t *testing.T) {
	eachOutside(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-tally :80 -udp :80", h.Publish(), h.Publish()+"/udp", "[ScaleToZero]", "IdleTimeout=1h")
		clients := []harness.UDPClient{h.DialUDPAs(lab.Outside()[0], h.Port), h.DialUDPAs(lab.Outside()[15], h.Port)}
		for i := range 3 {
			for _, c := range clients {
				datagram(h, c, fmt.Sprintf("before %d", i))
			}
			proxy := h.Property("app-proxy.service", "MainPID")
			h.Must(t, "kill", "-KILL", proxy)
			h.Wait("another proxy serves", func() bool {
				now := h.Property("app-proxy.service", "MainPID")
				return now != proxy && now != "0" && h.State("app-proxy.service") == "active"
			})
			for _, c := range clients {
				datagram(h, c, fmt.Sprintf("after %d", i))
			}
			for _, client := range harness.Clients() {
				a, err := exchangeNumber(h, client, h.Port, "1")
				if err != nil || a.peer != a.client {
					t.Errorf("the app has seen %s as %s: %v", a.client, a.peer, err)
				}
			}
		}
		sleepNow(h)
		h.Asleep()
	})
}

// A client of UDP leaves nothing in the container when its last session is over.
func TestRoutesOfClients(t *testing.T) {
	eachOutside(t, func(t *testing.T, h *harness.Host) {
		h.App("app", "-echo :81 -udp :80", append([]string{h.Publish() + "/udp"}, withEcho(h, "1s")...)...)
		keep := underWay(h)
		pid := containerPID(h)
		before := routesInside(h, pid)
		clients := harness.Clients()[:4]
		h.Wait("each client has one route", func() bool { // which lasts for 30 s, so that a slow machine may need a second look
			for _, client := range clients {
				for range 2 { // one route for both
					datagram(h, h.DialUDPAs(client, h.Port), "hello")
				}
			}
			with := strings.Join(routesInside(h, pid), "\n")
			t.Log(with)
			return !slices.ContainsFunc(clients, func(client netip.Addr) bool { return strings.Count(with, client.String()+" ") != 1 })
		})
		talker := h.DialUDPAs(clients[0], h.Port)
		h.Wait("who talks has a route, and nobody else", func() bool {
			datagram(h, talker, "still here")
			return len(routesInside(h, pid)) == len(before)+1
		})
		datagram(h, talker, "last word")
		for _, client := range clients {
			datagram(h, h.DialUDPAs(client, h.Port), "again")
		}
		keep.Close()
		h.Asleep()
	})
}

// routesInside are the routes of a container's network that are not there by
// themselves.
func routesInside(h *harness.Host, pid string) []string {
	h.Helper()
	var all []string
	for _, family := range []string{"-4", "-6"} {
		text := h.M.Root().Must(h.T, "nsenter", "--net=/proc/"+pid+"/ns/net", "ip", family, "route", "show", "table", "all")
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "table local") && !strings.Contains(line, "proto kernel") {
				all = append(all, strings.TrimSpace(line))
			}
		}
	}
	slices.Sort(all)
	return all
}
