package system

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// An app has its names on a network while it sleeps, and whoever asks for it there
// wakes it, and is to the app who they are. Awake, too, the names lead to the
// stand-in, so that nobody is in the app unseen.
func TestNames(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		b := harness.NewBridge(h)
		for _, test := range []struct {
			name, container string
			lines           []string
			networks        string // of the app itself
			port, listen    string
		}{
			{"leaves the network", "web", []string{"Network=proxy.network:alias=site", "Network=back.network"}, "systemd-back", "8096", "8096:80"},
			{"is renamed", "web-app", []string{"Network=proxy.network:alias=site"}, "systemd-proxy", "80", "80"},
			{"is renamed by its key", "web-app", []string{"Network=proxy.network:alias=site", "Network=back.network", "[ScaleToZero]", "StandIn=rename"}, "systemd-back systemd-proxy", "8096", "8096:80"},
			{"was never there", "web", []string{"Network=back.network", "NetworkAlias=site"}, "systemd-back", "8096", "8096:80"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.For(t)
				b.Name(append(append([]string{"ContainerName=web", "NetworkAlias=www,w3"}, test.lines...),
					"[ScaleToZero]", "Listen=proxy.network:"+test.listen, "IdleTimeout=2s")...)
				standIn := b.Address("systemd-app-standin")
				b.Expect("app.service", "inactive")
				release := b.Hold("web:" + test.port) // it must not sleep between two questions
				first := b.Of("web:" + test.port)
				for _, name := range []string{"web", "www", "w3", "site"} {
					if got := b.Lookup(name); got != standIn {
						t.Errorf("awake, %s is %s, want %s", name, got, standIn)
					}
					if got := b.Of(name + ":" + test.port); got != first {
						t.Errorf("%s is another start of the app: %s, want %s", name, got, first)
					}
				}
				if got, want := b.Of("web:"+test.port+"/who"), b.Address("client"); got != want {
					t.Errorf("to the app the client is %s, want %s", got, want)
				}
				networks := b.Must(t, "podman", "inspect", "--format", `{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}`, test.container)
				if got := strings.TrimSpace(networks); got != test.networks {
					t.Errorf("the app is in %s, want %s", got, test.networks)
				}
				release()
				b.Asleep()
				if got := b.Lookup("www"); got != standIn {
					t.Errorf("asleep, www is %s, want %s", got, standIn)
				}
				if again := b.Of("site:" + test.port); again == first {
					t.Error("a container that was to sleep has answered")
				}
				b.Asleep()
			})
		}
		for _, test := range []struct {
			name, pod string
			lines     []string
			networks  string // of the pod
			port      string
		}{
			{"a pod is renamed", "shop-app", nil, "systemd-proxy", "8097"},
			{"a pod leaves the network", "shop", []string{"Network=back.network"}, "systemd-back", "80"},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.For(t)
				podOf(b.Host, "-http :80", append(append([]string{"PodName=shop", "Network=proxy.network:alias=store"}, test.lines...),
					"[ScaleToZero]", "Listen=proxy.network:"+test.port+":80", "IdleTimeout=2s")...)
				podByName(b, test.pod, test.networks, test.port)
			})
		}
		t.Run("a page", func(t *testing.T) { namedPage(b.For(t)) })
	})
}

// podByName wakes a pod by its names, twice.
func podByName(b harness.Bridge, pod, networks, port string) {
	b.Helper()
	asleep := func() {
		for _, unit := range []string{"shop-pod-proxy", "shop-web", "shop-db", "shop-pod"} {
			b.WaitState(unit+".service", "inactive")
		}
	}
	asleep()
	b.Control("restart", "shop-pod-proxy.socket") // what a former file has made may run on
	b.Known("shop", "shop-pod")
	standIn := b.Address("systemd-shop-pod-standin")
	first := b.Of("shop:" + port)
	for _, name := range []string{"shop", "store"} {
		if got := b.Lookup(name); got != standIn {
			b.Errorf("awake, %s is %s, want %s", name, got, standIn)
		}
	}
	if got, want := b.Of("store:"+port+"/who"), b.Address("client"); got != want {
		b.Errorf("to the app the client is %s, want %s", got, want)
	}
	release := b.Hold("shop:" + port)
	infra := b.Must(b.T, "podman", "pod", "inspect", "--format", "{{.InfraContainerID}}", pod)
	if got := strings.TrimSpace(b.Must(b.T, "podman", "inspect", "--format", `{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}`, infra)); got != networks {
		b.Errorf("the pod is in %s, want %s", got, networks)
	}
	release()
	asleep()
	if b.Of("store:"+port) == first {
		b.Error("the pod has not slept")
	}
	asleep()
}

// What finds services by the labels of containers, as Traefik does, sees one backend,
// asleep and awake, at an address that answers; and it is told of no other. Traefik's
// own provider is held to the same in test/traefik, which takes minutes to download.
func TestLabels(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		b := harness.NewBridge(h)
		b.Name("ContainerName=web", "Network=proxy.network", "AutoUpdate=local",
			"Label=traefik.enable=true \"traefik.http.routers.web.rule=Host(`web.example`) && !PathRegexp(`x$$`)\"",
			"Label=of=%N", "[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=2s")
		b.Control("start", "podman.socket")
		asleep := discover(t, b)
		if asleep["Name"] != "/systemd-app-standin" {
			t.Errorf("the backend is %q", asleep["Name"])
		}
		if want := b.Lookup("web"); asleep["Address"] != want {
			t.Errorf("the backend is at %s, its name at %s", asleep["Address"], want)
		}
		if got, want := asleep["traefik.http.routers.web.rule"], "Host(`web.example`) && !PathRegexp(`x$`)"; got != want {
			t.Errorf("its rule is %s, want %s", got, want)
		}
		if asleep["of"] != "app" {
			t.Errorf("a specifier has become %q", asleep["of"])
		}
		for label := range asleep {
			if strings.HasPrefix(label, "io.containers.autoupdate") {
				t.Errorf("%s is the stand-in's: podman auto-update would restart that", label)
			}
		}
		// Seconds are all that can be asked for: what came before in this one is none of it.
		second := func() string { return b.Must(t, "date", "+%s") }
		before := second()
		b.Wait("the second is over", func() bool { return second() != before })
		began := second()
		release := b.Hold(asleep["Address"] + ":8096") // it must not sleep between two questions
		id := b.Of(asleep["Address"] + ":8096")
		if again := b.Of(asleep["Address"] + ":8096"); again != id {
			t.Error("the second answer is another start's")
		}
		if awake := discover(t, b); !maps.Equal(awake, asleep) {
			t.Errorf("awake the backend is %v, asleep %v", awake, asleep)
		}
		if got := b.Must(t, "podman", "inspect", "--format", `{{index .Config.Labels "io.containers.autoupdate"}}`, "web-app"); got != "local" {
			t.Errorf("podman auto-update looks for the app's label and finds %q", got)
		}
		release()
		b.Asleep()
		// Traefik asks for events of containers, and looks anew at each.
		for line := range strings.Lines(api(t, b, "/events?since="+began+"&until="+second())) {
			var event struct {
				Actor struct{ Attributes map[string]string }
			}
			if err := json.Unmarshal([]byte(line), &event); err != nil {
				t.Fatal(err)
			}
			if event.Actor.Attributes["traefik.enable"] != "" {
				t.Errorf("while the app woke and slept there was news of the backend: %s", line)
			}
		}
		b.Control("restart", "app-proxy.socket")
		b.WaitState("app-standin.service", "active")
		if anew := discover(t, b); b.Of(anew["Address"]+":8096") == id {
			t.Error("the app has not slept")
		}
	})
}

// api asks Podman's API of Docker's.
func api(t *testing.T, b harness.Bridge, path string) string {
	t.Helper()
	socket := "/run/podman/podman.sock"
	if b.UserManager {
		socket = b.RuntimeDir + "/podman/podman.sock"
	}
	return b.Must(t, "curl", "-sS", "--fail", "--unix-socket", socket, "http://docker/v1.41"+path)
}

// discover does what Traefik's provider for Docker does (pkg/provider/docker): it
// lists the containers that run, inspects each, keeps what is enabled by a label, and
// takes its address in the network. It returns the labels, with name and address.
func discover(t *testing.T, b harness.Bridge) map[string]string {
	t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(api(t, b, "/containers/json")), &list); err != nil {
		t.Fatal(err)
	}
	var found []map[string]string
	for _, c := range list {
		var container struct {
			Name            string
			Config          struct{ Labels map[string]string }
			NetworkSettings struct {
				Networks map[string]struct{ IPAddress string }
			}
		}
		if err := json.Unmarshal([]byte(api(t, b, "/containers/"+c.ID+"/json")), &container); err != nil {
			t.Fatal(err)
		}
		if container.Config.Labels["traefik.enable"] == "true" {
			labels := container.Config.Labels
			labels["Name"], labels["Address"] = container.Name, container.NetworkSettings.Networks["systemd-proxy"].IPAddress
			found = append(found, labels)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d backends: %v", len(found), found)
	}
	return found[0]
}
