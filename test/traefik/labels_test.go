// Package traefik holds what a stand-in shows of a container's labels to Traefik's own
// provider for Docker.
package traefik

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/provider/docker"
	"github.com/traefik/traefik/v3/pkg/safe"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) { harness.Main(m) }

// Traefik's provider sees one backend, at the stand-in's address, asleep and awake, and
// is told of no other while the app wakes and sleeps. With and without a label for the
// port: without, Traefik takes the one that the container exposes.
func TestTraefik(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		b := harness.NewBridge(h)
		b.Control("start", "podman.socket")
		for _, test := range []struct{ name, label string }{
			{"by label", "Label=traefik.http.services.wiki.loadbalancer.server.port=8096"},
			{"by the exposed port", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := b.For(t)
				b.Name("ContainerName=web", "Network=proxy.network", "Label=traefik.enable=true",
					"Label=\"traefik.http.routers.wiki.rule=Host(`wiki.example`)\"", test.label,
					"[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=2s")
				found := watch(t, b)
				url := fmt.Sprintf("http://%s:8096", b.Address("systemd-app-standin"))
				asleep := found.until(b, url)
				first := b.Of(url[len("http://"):])
				found.unchanged(b, asleep)
				b.Asleep()
				found.unchanged(b, asleep)
				b.Control("restart", "app-proxy.socket")
				b.WaitState("app-standin.service", "active")
				url = fmt.Sprintf("http://%s:8096", b.Address("systemd-app-standin"))
				found.until(b, url)
				if b.Of(url[len("http://"):]) == first {
					t.Error("the app has not slept")
				}
				b.Asleep()
			})
		}
	})
}

// configurations are what Traefik is to do, one after the other.
type configurations chan dynamic.Message

// watch runs the provider until the test ends.
func watch(t *testing.T, b harness.Bridge) configurations {
	t.Helper()
	socket := filepath.Join(b.RuntimeDir, "podman/podman.sock")
	p := &docker.Provider{}
	p.SetDefaults()
	p.Endpoint, p.ExposedByDefault, p.Network = "unix://"+b.M.Host(socket), false, "systemd-proxy"
	if err := p.Init(); err != nil {
		t.Fatal(err)
	}
	pool := safe.NewPool(b.Context())
	t.Cleanup(pool.Stop)
	found := make(configurations, 1000)
	if err := p.Provide(found, pool); err != nil {
		t.Fatal(err)
	}
	return found
}

// until waits for a configuration with one server, and returns its text.
func (found configurations) until(b harness.Bridge, url string) string {
	b.Helper()
	for deadline := time.After(harness.Patience); ; {
		select {
		case m := <-found:
			service := m.Configuration.HTTP.Services["wiki"]
			if service == nil {
				for _, service = range m.Configuration.HTTP.Services { // the only one has the container's name
				}
			}
			router := m.Configuration.HTTP.Routers["wiki"]
			if service != nil && router != nil && router.Rule == "Host(`wiki.example`)" && len(service.LoadBalancer.Servers) == 1 && service.LoadBalancer.Servers[0].URL == url {
				return text(b, m)
			}
		case <-deadline:
			b.Fatalf("Traefik has found no server %s\n%s", url, b.LastJournal())
		}
	}
}

// unchanged expects that no configuration since is another one.
func (found configurations) unchanged(b harness.Bridge, before string) {
	b.Helper()
	for {
		select {
		case m := <-found:
			if now := text(b, m); now != before {
				b.Errorf("Traefik's configuration is %s, was %s", now, before)
			}
		default:
			return
		}
	}
}

func text(b harness.Bridge, m dynamic.Message) string {
	b.Helper()
	data, err := json.Marshal(m.Configuration)
	if err != nil {
		b.Fatal(err)
	}
	return string(data)
}
