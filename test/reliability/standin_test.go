package reliability

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// named is an app that has its name on a network.
func named(h *harness.Host, idle string) harness.Bridge {
	h.Helper()
	b := harness.NewBridge(h)
	b.Name(namedLines(idle)...)
	return b
}

func namedLines(idle string) []string {
	return []string{"ContainerName=web", "Network=proxy.network", "[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=" + idle}
}

// answered waits until the app is reached by its name. While there is no stand-in,
// there is no such name.
func answered(b harness.Bridge) (id string) {
	b.Helper()
	b.Wait("the app answers by its name", func() (ok bool) {
		var err error
		id, err = b.Ask("web:8096")
		return err == nil
	}, "client.service", "app-standin.service", "app-proxy.service", "app.service")
	return id
}

// Whatever happens to the stand-in, it comes back with new sockets, and the proxy
// that serves takes them.
func TestStandInFaults(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		b := named(h, "1h")
		for _, test := range []struct {
			name string
			do   func(b harness.Bridge)
			same bool // the app has gone on
		}{
			{"it is killed asleep", killStandIn, false},
			{"it is killed awake", killStandIn, true},
			{"it is removed", func(b harness.Bridge) { b.Must(b.T, "podman", "rm", "--force", "--time=0", "systemd-app-standin") }, true},
			{"the proxy is killed", func(b harness.Bridge) {
				b.Control("kill", "--signal=KILL", "--kill-whom=main", "app-proxy.service")
			}, true},
			{"the app is killed", func(b harness.Bridge) { b.Must(b.T, "podman", "kill", "web-app") }, false},
			{"a neighbour is restarted", func(b harness.Bridge) { b.Control("restart", "client.service") }, true},
			{"networks are set up anew", func(b harness.Bridge) { b.Must(b.T, "podman", "network", "reload", "--all") }, true},
			{"the socket is restarted", func(b harness.Bridge) { b.Control("restart", "app-proxy.socket") }, false},
			{"its line is taken out, and put back", func(b harness.Bridge) {
				// At the first reload systemd closes what the file no longer has, and opens nothing at the second.
				other := []string{"ContainerName=web", "Network=proxy.network", fmt.Sprintf("PublishPort=127.0.0.1:%d:80", echoPort(b.Host)), "[ScaleToZero]"}
				b.Must(b.T, "zerolet", "sleep", "--force", "app") // the proxy has the socket, too
				b.App("app", "-http :80", other...)
				b.App("app", "-http :80", namedLines("1h")...)
				b.Wait("zerolet status sees it", func() bool {
					return strings.Contains(b.Output("zerolet", "status", "app"), "not listening")
				}, "app-proxy.socket", "app-standin.service")
				b.Must(b.T, "zerolet", "apply", "--now")
				answered(b)
				b.PutFile("app.container", "[Container]\nImage=localhost/app\nExec=-http :80\n"+strings.Join(other, "\n")+"\n")
				b.Must(b.T, "zerolet", "apply", "--now")
				b.WaitState("app-standin.service", "inactive")
				b.PutFile("app.container", "[Container]\nImage=localhost/app\nExec=-http :80\n"+strings.Join(namedLines("1h"), "\n")+"\n")
				b.Must(b.T, "zerolet", "apply", "--now")
			}, false},
			{"Podman is upgraded", func(b harness.Bridge) {
				// As dpkg does it: another file takes the place of one that runs.
				for _, program := range []string{"/usr/bin/podman", "/usr/bin/conmon", "/usr/lib/podman/netavark", "/usr/lib/podman/aardvark-dns"} {
					b.M.Root().Must(b.T, "cp", "--preserve", program, program+".new")
					b.M.Root().Must(b.T, "mv", program+".new", program)
				}
				killStandIn(b)
				b.Control("restart", "client.service")
			}, true},
			// It stops all containers.
			{"it is stopped by podman-system-migrate(1)", func(b harness.Bridge) {
				b.Must(b.T, "podman", "system", "migrate")
				b.Control("restart", "client.service")
			}, false},
			{"the network is removed and made anew", func(b harness.Bridge) {
				b.Must(b.T, "podman", "network", "rm", "--force", "--time=0", "systemd-proxy")
				// It was made before the app was declared: by a unit that is active for good. Podman may
				// still be about to remove it, and whoever came meanwhile has the bridge and its subnet.
				b.Wait("the network is made anew", func() bool {
					_, err := b.Systemctl(b.Context(), "restart", "proxy-network.service")
					if err != nil {
						_, _ = b.Systemctl(b.Context(), "stop", "app-standin.service", "app.service")
						_, _ = b.Systemctl(b.Context(), "reset-failed") // systemd counts how often it is tried
					}
					return err == nil
				}, "proxy-network.service")
				b.WaitState("app-standin.service", "active")
				b.Control("restart", "client.service")
			}, false},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.For(t)
				before := ""
				if test.name != "it is killed asleep" {
					before = answered(b)
				}
				invocation := b.Property("app-standin.service", "InvocationID")
				test.do(b)
				if strings.HasPrefix(test.name, "it is") {
					anotherStandIn(b, invocation)
				}
				after := answered(b)
				if same := after == before; test.same && !same {
					t.Errorf("the app was started anew\n%s", b.LastJournal())
				}
				b.Known("web", "app")
			})
		}
		t.Run("who comes after the app starts after its stand-in", func(t *testing.T) { bootOrder(b.For(t)) })
		t.Run("two want one port", func(t *testing.T) { onePort(b.For(t)) })
	})
}

// killStandIn returns when there is another one.
func killStandIn(b harness.Bridge) {
	b.Helper()
	killed := b.Property("app-standin.service", "InvocationID")
	b.Must(b.T, "podman", "kill", "systemd-app-standin")
	anotherStandIn(b, killed)
}

func anotherStandIn(b harness.Bridge, before string) {
	b.Helper()
	b.Wait("there is another stand-in", func() bool {
		return b.Property("app-standin.service", "InvocationID") != before && b.State("app-standin.service") == "active"
	}, "app-standin.service")
}

// bootOrder starts together, as at boot, a stand-in that takes its time and who is
// ordered after its app: nginx ends if the name is not there.
func bootOrder(b harness.Bridge) {
	b.Helper()
	b.Must(b.T, "zerolet", "sleep", "--force", "app")
	b.PutFile("client.container.d/after.conf", "[Unit]\nAfter=app.service\n")
	slow := newGate(b.Host, "app-standin.service", "ExecStartPre")
	b.Reload()
	b.Control("restart", "--no-block", "client.service", "app-proxy.socket")
	waitStage(b.Host, "app-standin.service", "start-pre")
	waitStartWaits(b.Host, "client.service")
	slow.open()
	b.WaitState("client.service", "active")
	b.Expect("app-standin.service", "active")
	b.Expect("app.service", "inactive")
	removeDropIn(b.Host, "app-standin.service")
	answered(b)
}

// onePort has two apps have the same port of one network, each by its own name. Who
// wants a name that is there already does not get it.
func onePort(b harness.Bridge) {
	b.Helper()
	named := func(file, name string, lines ...string) {
		lines = append(lines, "ContainerName="+name, "Network=proxy.network", "[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=1s")
		b.PutFile(file+".container", "[Container]\nImage=localhost/app\nExec=-http :80\n"+strings.Join(lines, "\n")+"\n")
	}
	named("other", "shop")
	b.Reload()
	b.Known("shop", "other")
	if web, shop := b.Of("web:8096"), b.Of("shop:8096"); web == shop {
		b.Error("one app answers for both")
	}
	named("third", "third", "NetworkAlias=shop")
	b.Reload()
	if got := b.Property("third-standin.service", "LoadState"); got != "not-found" {
		b.Errorf("two have one name on a network: the second stand-in is %s", got)
	}
	if got, want := b.Lookup("shop"), b.Address("systemd-other-standin"); got != want {
		b.Errorf("shop is %s, and its stand-in %s", got, want)
	}
}

// A proxy whose stand-in never comes is one without clients.
func TestStandInNeverComes(t *testing.T) {
	each(t, func(_ *testing.T, h *harness.Host) {
		b := named(h, "1s")
		b.Control("stop", "client.service")
		b.Control("start", "app-proxy.service")
		b.Asleep()
	})
}

// Clients in a network come at the edge between idle and awake, of an app that is the
// command of its unit, as in TestIdleEdgeByForce. The stand-in is Podman's.
func TestIdleEdgeByName(t *testing.T) {
	bothManagers(t, wakes(24, 2), func(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
		byForce(h, "app", installApp(h)+" -http :80")
		edgeByName(h, r, left)
	})
}

// The same with all of it Podman's.
func TestIdleEdgeByNameOnPodman(t *testing.T) {
	if !*soak {
		t.Skip("without -soak: TestIdleEdgeByName makes the same of the stand-in in less time")
	}
	bothManagers(t, wakes(0, 10), edgeByName)
}

func edgeByName(h *harness.Host, r *rand.Rand, left *atomic.Int64) {
	h.Helper()
	const idle = 50 * time.Millisecond
	b := named(h, idle.String())
	starts := make(map[string]bool)
	asked, worst := 0, time.Duration(0)
	for began := time.Now(); left.Load() > 0 && time.Since(began) < *limit; asked++ {
		sent := time.Now()
		id, err := b.Ask("web:8096")
		if err != nil {
			h.Fatalf("request %d is lost: %v\n%s", asked+1, err, h.LastJournal())
		}
		worst = max(worst, time.Since(sent))
		if !starts[id] {
			starts[id] = true
			left.Add(-1)
		}
		time.Sleep(idle/2 + time.Duration(r.Int64N(int64(2*idle)))) // what is tried is the moment
	}
	h.Logf("%d requests, %d wakes, none lost, longest wait %s", asked, len(starts), worst)
}
