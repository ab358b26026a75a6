package reliability

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// podOf declares a pod with the units of name, in which web serves the public
// ports, and db one of them, too.
func podOf(h *harness.Host, name, web string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.PutFile(name+".pod", "[Pod]\nServiceName="+name+"\n"+strings.Join(lines, "\n")+"\n")
	member := func(member, exec string) {
		h.PutFile(name+"-"+member+".container", "[Container]\nImage="+image+"\nExec="+exec+"\nPod="+name+".pod\n")
	}
	member("web", web)
	member("db", "-echo :81")
	h.Reload()
	h.WaitState(name+"-proxy.socket", "active")
}

// pod is one whose units are those of app.
func pod(h *harness.Host, idle string) {
	h.Helper()
	podOf(h, "app", "-http :80", withEcho(h, idle)...)
}

func podAsleep(h *harness.Host) { h.Helper(); h.AsleepPod("app", "app-web", "app-db") }

// podFault is something that happens to a pod that is declared, and asleep.
type podFault struct {
	name string
	test func(h *harness.Host)
}

func podFaults() []podFault {
	return []podFault{
		{"MemberKilled", podMemberKilled},
		{"AllKilled", podAllKilled},
		{"MemberFails", podMemberFails},
		{"InfraKilled", podInfraKilled},
		{"StartFails", podStartFails},
		{"Restarted", podRestarted},
		{"Stopped", podStopped},
		{"Reloaded", podReloaded},
		{"WhileStopping", podWhileStopping},
		{"ProxyKilled", podProxyKilled},
		{"Removed", func(h *harness.Host) { podRemoved(h, false) }},
		{"RemovedAndReloaded", func(h *harness.Host) { podRemoved(h, true) }},
	}
}

// What happens to one container of a pod, to its infra container or to all of
// them costs no waiting client, and leaves nothing behind.
func TestPodFaults(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		pod(h, "1s")
		for _, fault := range podFaults() {
			t.Run(fault.name, func(t *testing.T) {
				host := *h
				host.T = t
				fault.test(&host)
				podAsleep(&host)
			})
		}
		h.MustGet()
	})
	// It is awake when the machine goes down.
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	harness.Each(t, m, func(_ *testing.T, h *harness.Host) {
		h.WaitState("app-proxy.socket", "active")
		podAsleep(h)
		h.MustGet()
		podAsleep(h)
	})
}

// The next client gets a new container in the pod that is there. The others
// do not notice.
func podMemberKilled(h *harness.Host) {
	c := underWay(h)
	first, pod := h.MustGet(), h.Property("app.service", "InvocationID")
	h.Must(h.T, "podman", "kill", "systemd-app-web")
	h.WaitState("app-web.service", "active")
	h.Wait("web is another one", func() bool {
		id, err := h.Get()
		return err == nil && id != first
	}, "app-web.service")
	exchange(h, c, "after")
	if again := h.Property("app.service", "InvocationID"); again != pod {
		h.Errorf("the whole pod was started anew")
	}
	c.Close()
}

// podStays has the pod stay awake, whose clients do not outlive what is to happen.
func podStays(h *harness.Host) (sleep func()) {
	h.Helper()
	h.PutFile("app.pod.d/idle.conf", "[ScaleToZero]\nIdleTimeout=1h\n")
	h.Reload()
	return func() {
		h.Must(h.T, "rm", "-r", h.QuadletDir+"/app.pod.d")
		h.Reload()
		sleepNow(h)
	}
}

// The pod stays when the last of its containers dies, which are started in it again.
func podAllKilled(h *harness.Host) {
	sleep := podStays(h)
	first, pod := h.MustGet(), h.Property("app.service", "InvocationID")
	h.Must(h.T, "podman", "kill", "systemd-app-web", "systemd-app-db")
	h.Wait("web is another one", func() bool {
		id, err := h.Get()
		return err == nil && id != first
	}, "app-web.service")
	underWay(h).Close() // and so is db
	if again := h.Property("app.service", "InvocationID"); again != pod {
		h.Errorf("the whole pod was started anew")
	}
	sleep()
}

// One that cannot start leaves the others to serve, and status says which it is.
func podMemberFails(h *harness.Host) {
	repair := breakStart(h, "app-db.service", "")
	h.Reload()
	c := h.Connect()
	h.MustGet()
	h.Wait("db is tried again", func() bool { return tries(h) > 2 }, "app-db.service")
	h.Wait("status tells of db", func() bool {
		out, _ := h.Session.Run(h.Context(), "zerolet", "status", "app")
		return strings.Contains(out.Stdout, "app: app-db.service failed")
	}, "app-db.service")
	h.Wait("the doctor does", func() bool {
		out, err := h.Session.Run(h.Context(), "zerolet", "doctor")
		return err != nil && strings.Contains(out.Stdout, "app-db.service failed")
	}, "app-db.service")
	repair()
	h.WaitState("app-db.service", "active")
	underWay(h).Close()
	c.Close()
	removeDropIn(h, "app-db.service")
}

// The network is gone with the infra container, and with it every connection.
func podInfraKilled(h *harness.Host) {
	c := underWay(h)
	first := h.MustGet()
	h.Must(h.T, "podman", "kill", "systemd-app-infra")
	h.Wait("the pod is another one", func() bool {
		id, err := h.Get()
		return err == nil && id != first
	}, "app.service")
	c.Close()
}

// A pod that cannot start holds its client, and is tried no more without one.
func podStartFails(h *harness.Host) {
	repair := breakStart(h, "app.service", "")
	h.Reload()
	c := h.Connect()
	h.Wait("the start has failed", func() bool { return tries(h) > 2 }, "app.service")
	abort(c)
	h.WaitState("app-proxy.service", "inactive")
	h.WaitState("app.service", "failed")
	before := tries(h)
	a := background(h)
	h.Wait("it is tried again", func() bool { return tries(h) > before }, "app.service")
	repair()
	(<-a).must(h)
	removeDropIn(h, "app.service")
}

// One container is restarted, then the pod.
func podRestarted(h *harness.Host) {
	c := underWay(h)
	first := h.MustGet()
	h.Control("restart", "app-web.service")
	second := h.MustGet()
	exchange(h, c, "after")
	h.Control("restart", "app.service")
	third := h.MustGet()
	if first == second || second == third {
		h.Errorf("not restarted: %s, %s, %s", first, second, third)
	}
	c.Close()
}

// The pod, or a container that another one requires, is stopped with clients there.
// What stops before it has to come back, too, once that is over.
func podStopped(h *harness.Host) {
	h.PutFile("app-web.container.d/needs.conf", "[Unit]\nRequires=app-db.service\nAfter=app-db.service\n")
	h.Reload()
	c := underWay(h) // with db
	last := h.MustGet()
	for _, unit := range []string{"app.service", "app-db.service"} {
		h.Control("stop", unit)
		next := h.MustGet()
		if next == last {
			h.Errorf("%s: web was not stopped", unit)
		}
		last = next
		old := c
		c = underWay(h) // db is back, too, and remains
		old.Close()
	}
	c.Close()
	podAsleep(h)
	h.Must(h.T, "rm", "-r", h.QuadletDir+"/app-web.container.d")
	h.Reload()
}

// daemon-reload touches nothing that runs, and what it leaves without need systemd has
// begun to stop before it answers the next question.
func podReloaded(h *harness.Host) {
	c := underWay(h)
	first := h.MustGet()
	run := func() (runs []string) {
		for _, unit := range []string{"app-proxy.service", "app-web.service", "app-db.service", "app.service"} {
			runs = append(runs, unit+" "+h.State(unit)+" "+h.Property(unit, "InvocationID"))
		}
		return runs
	}
	before := run()
	h.Reload()
	if after := run(); !slices.Equal(after, before) {
		h.Errorf("%q, and then %q", before, after)
	}
	exchange(h, c, "after")
	if again := h.MustGet(); again != first {
		h.Errorf("another container answered: %s, then %s", first, again)
	}
	c.Close()
}

// A client comes while a container, or the pod, stops: it waits for the next, also if
// the one that is to stop still answers.
func podWhileStopping(h *harness.Host) {
	for _, stops := range []struct {
		unit, stage string
		gate        func() gate
	}{
		{"app-web.service", "stop", func() gate { return newStopGate(h, "app-web.service") }},
		{"app.service", "stop-post", func() gate { return newGate(h, "app.service", "ExecStopPost") }},
	} {
		unit, g := stops.unit, stops.gate()
		h.Reload()
		first := h.MustGet()
		waitStage(h, unit, stops.stage)
		a := background(h)
		h.Wait("the client is in the backlog, or answered", func() bool { return backlog(h) > 0 || len(a) > 0 })
		g.open()
		if id := (<-a).must(h); id == first {
			h.Error("a container that was being stopped answered")
		}
		podAsleep(h)
		removeDropIn(h, unit)
	}
}

// The next client is served by the containers that are there: the proxy comes back by
// itself, and until then nothing stops.
func podProxyKilled(h *harness.Host) {
	sleep := podStays(h)
	first := h.MustGet()
	killed := h.Property("app-proxy.service", "InvocationID")
	h.Control("kill", "--signal=KILL", "app-proxy.service")
	h.Wait("the killed one has ended, and is no more what runs", func() bool {
		return h.Property("app-proxy.service", "InvocationID") != killed || h.State("app-proxy.service") != "active"
	}, "app-proxy.service")
	h.WaitState("app-proxy.service", "active")
	if again := h.MustGet(); again != first {
		h.Errorf("another container answered: %s, then %s", first, again)
	}
	sleep()
}

// What is not declared any more stops, all of it: without their files nothing binds
// the containers to the pod.
func podRemoved(h *harness.Host, reloaded bool) {
	c := h.Connect()
	h.MustGet()
	h.Must(h.T, "sh", "-c", `rm "$0"/app.pod "$0"/app-web.container "$0"/app-db.container`, h.QuadletDir)
	if reloaded {
		h.Reload()
	}
	h.Must(h.T, "zerolet", "apply")
	for _, unit := range []string{"app-proxy.service", "app-web.service", "app-db.service", "app.service"} {
		h.Expect(unit, "inactive")
	}
	if left := h.Must(h.T, "podman", "ps", "--quiet"); left != "" {
		h.Errorf("containers run: %s", left)
	}
	c.Close()
	pod(h, "1s")
	h.MustGet()
}

// Clients with random pauses around the idle time, on pods.
func TestPodIdleEdge(t *testing.T) {
	bothManagers(t, wakes(8, 4), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		b := &boundary{services: 3, wakes: left, idle: 200e6}
		for i := range b.services {
			podOf(h, name(i), "-tally :80", fmt.Sprintf("PublishPort=%d:80", port(h, i)), "[ScaleToZero]", "IdleTimeout=200ms")
		}
		b.run(h, r)
		b.check(h, talliedInJournal(h))
	})
}

// How long a pod takes from nothing to its first answer, and what systemctl takes
// to start the stock pod, in turns. It is measured, and asserted by nothing.
func TestPodColdStart(t *testing.T) {
	if !*soak {
		t.Skip("it measures: -soak")
	}
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		pod(h, "1s")
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("stock.pod", fmt.Sprintf("[Pod]\nPublishPort=%d:80\n", h.Port+20))
		for member, exec := range map[string]string{"web": "-http :80", "db": "-echo :81"} {
			h.PutFile("stock-"+member+".container", "[Container]\nImage="+image+"\nExec="+exec+"\nPod=stock.pod\n[Quadlet]\nDefaultDependencies=no\n")
		}
		h.Reload()
		stock := *h
		stock.Port += 20
		var ours, theirs []time.Duration
		for range 15 {
			began := time.Now()
			h.MustGet()
			ours = append(ours, time.Since(began))
			podAsleep(h)
			began = time.Now()
			h.Control("start", "stock-pod.service", "stock-web.service", "stock-db.service")
			for _, err := stock.Get(); err != nil; _, err = stock.Get() {
				time.Sleep(time.Millisecond)
			}
			theirs = append(theirs, time.Since(began))
			h.Control("stop", "stock-pod.service")
			h.WaitState("stock-pod.service", "inactive")
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		t.Logf("from nothing to the first answer, median of %d: %s, by systemctl start %s", len(ours),
			ours[len(ours)/2].Round(time.Millisecond), theirs[len(theirs)/2].Round(time.Millisecond))
	})
}
