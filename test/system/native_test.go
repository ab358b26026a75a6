package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// With Mode=native the app accepts from systemd's sockets, in any network, and
// sleeps and wakes like any other. No port is published, no pid is asked for.
func TestNative(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for _, network := range []string{"", "Network=none", "Network=host"} {
			t.Run(strings.TrimPrefix(network, "Network="), func(t *testing.T) {
				h := *h
				h.T = t
				native(&h, network)
			})
		}
	})
}

func native(h *harness.Host, network string) {
	h.Helper()
	h.App("app", "-http systemd:0 -http systemd:1", "Label=zerolet.native=yes", network,
		fmt.Sprintf("PublishPort=%d:80", h.Port), fmt.Sprintf("PublishPort=127.0.0.1:%d:81", h.Port+100),
		"[ScaleToZero]", "Mode=native", "IdleTimeout=1s")
	c := h.Connect() // it must not sleep between the two
	first := h.MustGet()
	second := *h
	second.Port += 100
	if id := second.MustGet(); id != first {
		h.Errorf("the second port is answered by %s, the first by %s", id, first)
	}
	if command := h.Property("app.service", "ExecStart"); strings.Contains(command, "--publish") || strings.Contains(command, "--pidfile") {
		h.Errorf("the container is published: %s", command)
	}
	c.Close()
	h.Asleep()
	if id := second.MustGet(); id == first {
		h.Errorf("the container was not stopped: %s answered again", id)
	}
	h.Asleep()
}

// The recipe of docs/recipes.md, as it stands there but for the port, with
// Debian's nginx by the name of the image.
func TestNativeRecipe(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.NginxImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		recipes := strings.ReplaceAll(read(t, "../../docs/recipes.md"), "8080", fmt.Sprint(h.Port))
		_, recipe, _ := strings.Cut(recipes, "## A server that takes the sockets itself\n")
		h.PutFile("app.container", between(t, recipe, "```ini\n", "```"))
		h.PutFile(h.Home+"/nginx.conf", between(t, recipe, "```nginx\n", "```"))
		h.Must(t, "podman", "tag", image, "docker.io/library/nginx")
		h.Must(t, "zerolet", "apply")
		before := ""
		for range 2 {
			for range 3 {
				if answer := h.MustGet(); answer != "for 127.0.0.1\n" && answer != "for ::ffff:127.0.0.1\n" {
					t.Errorf("%q", answer)
				}
			}
			start := h.Property("app.service", "InvocationID")
			if start == before {
				t.Error("the container has not slept")
			}
			before = start
			h.Unused("app")
			h.Must(t, "zerolet", "sleep", "app")
			h.Asleep()
		}
	})
}

// Servers of Debian that take systemd's sockets.
func TestNativeServers(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		const image = "localhost/native"
		if err := h.DebianImage(t.Context(), image, []string{"nginx", "lighttpd"}); err != nil {
			t.Fatal(err)
		}
		for _, server := range []struct{ name, config, exec, tells string }{
			{
				"nginx",
				"events {}\nerror_log stderr;\nhttp { server { listen [::]:%d ipv6only=off; return 200 'served by nginx'; } }\n",
				`/usr/sbin/nginx -c /config/nginx -g "daemon off;"`,
				"Environment=NGINX=3;",
			},
			{
				"lighttpd",
				"server.document-root = \"/config\"\nserver.port = %d\nserver.bind = \"[::]\"\nserver.systemd-socket-activation = \"enable\"\n",
				"/usr/sbin/lighttpd -D -f /config/lighttpd",
				"Label=zerolet.native=yes",
			},
		} {
			t.Run(server.name, func(t *testing.T) {
				h := *h
				h.T = t
				config := h.Home + "/config"
				h.PutFile(config+"/"+server.name, fmt.Sprintf(server.config, h.Port))
				h.PutFile(config+"/hello", "served by "+server.name)
				h.Declare("app", "Image="+image, "Exec="+server.exec, server.tells, "Network=none", "Volume="+config+":/config:ro",
					h.Publish(), "[ScaleToZero]", "Mode=native", "IdleTimeout=1s")
				for range 2 {
					for range 3 { // an accept(2) that blocks would hang an event loop at the second
						if answer, err := h.GetPath("/hello"); err != nil || answer != "served by "+server.name {
							t.Fatalf("%q, %v\n%s", answer, err, h.LastJournal())
						}
					}
					h.Asleep()
				}
			})
		}
	})
}
