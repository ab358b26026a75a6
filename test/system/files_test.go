package system

import (
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// putAsRoot writes a file where only root may.
func putAsRoot(h *harness.Host, name, text string) {
	h.Helper()
	if err := h.M.Root().Put(h.Context(), name, text); err != nil {
		h.Fatal(err)
	}
}

// Files are found where stock Quadlet finds them, and of several with one name
// it is the same file: stock's own unit says so.
func TestDirectories(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		dirs := []string{
			"/run/containers/systemd", "/etc/containers/systemd", "/etc/containers/systemd/sub/deeper",
			"/etc/containers/systemd/link", "/usr/share/containers/systemd",
		}
		hidden := "/etc/containers/systemd/users/1000"
		target := "/srv/root-units"
		if h.UserManager {
			dirs = []string{
				h.RuntimeDir + "/containers/systemd", h.QuadletDir, h.QuadletDir + "/sub/deeper", h.QuadletDir + "/link",
				"/etc/containers/systemd/users/1000", "/etc/containers/systemd/users",
			}
			hidden = "/etc/containers/systemd/users/1001"
			target = "/srv/user-units"
		}
		// Root may write everywhere; links lead to a directory and a file elsewhere.
		root := h.M.Root()
		link := dirs[3]
		root.Must(t, "mkdir", "-p", path.Dir(link), target)
		root.Must(t, "ln", "-sfn", target, link)
		const text = "[Container]\nImage=localhost/none\nPublishPort=%d:80\n[ScaleToZero]\n"
		for i, dir := range dirs {
			putAsRoot(h, fmt.Sprintf("%s/%s-%d.container", dir, h.Name, i), fmt.Sprintf(text, h.Port+100+10*i))
			putAsRoot(h, dir+"/same.container", fmt.Sprintf(text, h.Port+10))
		}
		putAsRoot(h, target+"-file", fmt.Sprintf(text, h.Port+20))
		root.Must(t, "ln", "-sf", target+"-file", dirs[1]+"/linked.container")
		putAsRoot(h, hidden+"/hidden-from-"+h.Name+".container", fmt.Sprintf(text, h.Port+30))
		h.Reload()

		names := []string{"linked", "same"}
		for i := range dirs {
			names = append(names, fmt.Sprintf("%s-%d", h.Name, i))
		}
		for _, name := range names {
			h.WaitState(name+"-proxy.socket", "active")
			stock := h.Must(t, "sed", "-n", "s/^SourcePath=//p", path.Join(h.GeneratorDir, name+".service"))
			if got := h.Property(name+".service", "SourcePath"); got != stock || got == "" {
				t.Errorf("%s is made of %q, by stock Quadlet of %q", name, got, stock)
			}
			if from := h.Property(name+".service", "FragmentPath"); !strings.HasPrefix(from, h.GeneratorDir+".early/") {
				t.Errorf("%s.service comes from %s", name, from)
			}
		}
		if state := h.Property("hidden-from-"+h.Name+".service", "LoadState"); state != "not-found" {
			t.Errorf("another manager's file is used: its service is %s", state)
		}
	})
}

// Networks, volumes and images that are Quadlet files too: the container gets
// them, and they stay when it sleeps.
func TestReferences(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		putAsRoot(h, "/etc/resolv.conf", "nameserver 127.0.0.1\n") // the lab has none, and a network of one's own needs it
		h.PutFile("back.network", "[Network]\nNetworkName=backnet\nDisableDNS=true\n")
		h.PutFile("data.volume", "[Volume]\n")
		h.PutFile("build/Containerfile", "FROM "+image+"\n")
		h.PutFile("made.build", "[Build]\nImageTag=localhost/made:1\nSetWorkingDirectory=build\nPull=never\n")
		h.Declare("app", "Image=made.build", "Exec=-http :80", "ContainerName=renamed", "Network=back.network", "Volume=data.volume:/data",
			h.Publish(), "[Unit]", "Description=An app", "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		first := h.MustGet()
		const format = "{{.Config.Image}} {{range $n, $x := .NetworkSettings.Networks}}{{$n}} {{end}}{{range .Mounts}}{{.Name}}:{{.Destination}}{{end}}"
		if got := h.Must(t, "podman", "inspect", "--format", format, "renamed"); got != "localhost/made:1 backnet systemd-data:/data" {
			t.Errorf("the container has %s", got)
		}
		c.Close()
		h.Asleep()
		h.Must(t, "podman", "network", "exists", "backnet")
		h.Must(t, "podman", "volume", "exists", "systemd-data")
		if h.MustGet() == first {
			t.Error("the container was not stopped")
		}
		h.Asleep()
	})
}

// An image that is a Quadlet file is pulled by the first wake, which waits for
// it: the lab has no registry, an archive does as well.
func TestImageFile(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		const pulled = "localhost/pulled:1"
		archive := h.Home + "/pulled.tar"
		h.Must(t, "podman", "tag", image, pulled)
		h.Must(t, "podman", "save", "--quiet", "--output", archive, pulled)
		h.Must(t, "podman", "untag", image, pulled)
		h.PutFile("pulled.image", "[Image]\nImage=docker-archive:"+archive+"\nImageTag="+pulled+"\n")
		h.Declare("app", "Image=pulled.image", "Exec=-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.Expect("pulled-image.service", "inactive")
		c := h.Connect()
		h.MustGet()
		h.Expect("pulled-image.service", "active")
		if got := h.Must(t, "podman", "inspect", "--format", "{{.Config.Image}}", "systemd-app"); got != pulled {
			t.Errorf("the container is made of %s, want %s", got, pulled)
		}
		c.Close()
		h.Asleep()
		h.MustGet()
		h.Asleep()
	})
}

// A service that ends by itself is refused: no socket, nothing runs unscaled,
// and starting it says why.
func TestOneshot(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("once.container", "[Container]\nImage="+image+"\nExec=-http :80\n"+h.Publish()+"\n[Service]\nType=oneshot\n[ScaleToZero]\n")
		h.Reload()
		for unit, want := range map[string]string{"once-proxy.socket": "not-found", "once-proxy.service": "not-found", "once.service": "loaded"} {
			if got := h.Property(unit, "LoadState"); got != want {
				t.Fatalf("%s is %s, want %s", unit, got, want)
			}
		}
		if out, err := h.Systemctl(t.Context(), "start", "once.service"); err == nil {
			t.Errorf("it was started: %s", out.Stdout)
		}
		h.Wait("the journal says why", func() bool {
			text, err := h.Journal(t.Context(), "once.service")
			return err == nil && strings.Contains(text, "once.container:6:1: error: a service that ends by itself cannot be scaled")
		}, "once.service")
		if all := harness.Containers(t, h.Session); all != "" {
			t.Errorf("a container was made: %s", all)
		}
		if _, err := h.Get(); err == nil {
			t.Error("somebody listens")
		}
	})
}

// ServiceName= gives all units their name, also one that must be escaped.
func TestServiceName(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("file.container", "[Container]\nImage="+image+"\nExec=-http :80\nContainerName=my-app\nServiceName=my\\x2dapp\n"+h.Publish()+"\n[ScaleToZero]\nIdleTimeout=1s\n")
		h.Reload()
		h.WaitState(`my\x2dapp-proxy.socket`, "active")
		for range 2 {
			c := h.Connect()
			h.MustGet()
			h.Expect(`my\x2dapp.service`, "active")
			c.Close()
			h.WaitState(`my\x2dapp-proxy.service`, "inactive")
			h.WaitState(`my\x2dapp.service`, "inactive")
		}
		if state := h.Property("file.service", "LoadState"); state != "not-found" {
			t.Errorf("file.service is %s", state)
		}
		if left := h.Must(t, "sh", "-c", "ls -A "+h.RuntimeDir+" | grep my || true"); left != "" {
			t.Errorf("left behind: %s", left)
		}
	})
}

// [Install] is the socket's, in every form in which stock Quadlet takes it, and
// no other name starts the container for good.
func TestInstallForms(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for _, name := range []string{"one", "two", "three", "four"} {
			h.PutFile(path.Join(h.UnitDir, name+".service"), "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "AutoStart=no", "[Install]",
			`WantedBy="one.service" 'two.service'`, "RequiredBy=three.service", "UpheldBy=four.service", "Alias=site.service")
		h.Expect("app-proxy.socket", "inactive")
		for _, name := range []string{"one", "two", "three", "four"} {
			h.Control("start", name+".service")
			h.WaitState("app-proxy.socket", "active")
			h.WaitState("app.service", "active") // a service that wants it gets it, a target does not
			h.Control("stop", name+".service", "app-proxy.socket")
			h.WaitState("app.service", "inactive")
		}
		for property, want := range map[string]string{"Id": "app.service", "FragmentPath": h.GeneratorDir + ".early/app.service"} {
			if got := h.Property("site.service", property); got != want {
				t.Errorf("site.service has %s=%s, want %s", property, got, want)
			}
		}
		// Nobody needs it: it goes again at once, by whichever name it was started.
		if _, err := h.Systemctl(t.Context(), "start", "site.service"); err == nil {
			h.WaitState("app.service", "inactive")
		}
		h.Control("start", "app-proxy.socket")
		h.MustGet()
		h.Asleep()
	})
}

// A file that stops being scaled is stock Quadlet's again: nothing of ours is
// left in the generators' directories. What runs goes on; the socket, which
// systemd only forgets, has to be stopped.
func TestNoLongerScaled(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h")
		first := h.MustGet()
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("app.container", "[Container]\nImage="+image+"\nExec=-http :80\n"+h.Publish()+"\n")
		h.Reload()
		if left := h.Must(t, "sh", "-c", "find "+h.GeneratorDir+"* -name '*-proxy*' -o -name '*zerolet*'"); left != "" {
			t.Errorf("left: %s", left)
		}
		if from := h.Property("app.service", "FragmentPath"); from != path.Join(h.GeneratorDir, "app.service") {
			t.Errorf("app.service comes from %s", from)
		}
		if again := h.MustGet(); again != first {
			t.Errorf("another container answers: %s, then %s", first, again)
		}
		h.Control("stop", "app-proxy.socket", "app-proxy.service", "app.service")
		h.Control("start", "app.service")
		h.Wait("podman publishes the port", func() bool { id, err := h.Get(); return err == nil && id != first }, "app.service")
		h.Expect("app-proxy.service", "inactive")
	})
}

// Values with everything in them that systemd or a shell would act on reach the
// container as they reach it without zerolet.
func TestValues(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		values := []string{
			`Environment="A=two words" 'B=it"s' C=50%% D=$$HOME E=ünï→ F=back\\slash`,
			`Environment=G=semi;colon "H=#hash" I=tab\there J=${UNSET}x`,
			`Label="l=[Service] ExecStart=/bin/false"`,
			`Label=m=%n`,
			`Exec=-http :80 -http :8081 \`,
			`   -delay 0s`,
		}
		h.App("app", "-http :80", append(append([]string{h.Publish()}, values...), "[ScaleToZero]", "IdleTimeout=1h")...)
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h.PutFile("plain.container", "[Container]\nImage="+image+"\n"+strings.Join(values, "\n")+"\n")
		h.Reload()
		h.MustGet()
		h.Control("start", "plain.service")
		show := func(name string) string {
			text := h.Must(t, "podman", "inspect", "--format", "{{range .Config.Env}}{{json .}}\n{{end}}{{json .Config.Labels}}\n{{json .Config.Cmd}}", "systemd-"+name)
			id := h.Must(t, "podman", "inspect", "--format", "{{.Config.Hostname}}", "systemd-"+name)
			lines := strings.Split(strings.NewReplacer(name+".service", "NAME.service", id, "ID").Replace(text), "\n")
			slices.Sort(lines) // Podman keeps the environment in no order
			return strings.Join(lines, "\n")
		}
		app, plain := show("app"), show("plain")
		if app != plain {
			t.Errorf("the container has\n%s\nwithout zerolet it has\n%s", app, plain)
		}
		for _, want := range []string{`"A=two words"`, `"B=it\"s"`, `"C=50%"`, `"E=ünï→"`, `"F=back\\slash"`, `"G=semi;colon"`, `"H=#hash"`, `"l":"[Service] ExecStart=/bin/false"`} {
			if !strings.Contains(app, want) {
				t.Errorf("no %s in %s", want, app)
			}
		}
		verify(h)
	})
}

// systemd loads a unit whose longest line is one byte short of 1 MiB, and none
// with a longer one, which the generator relies on.
func TestLongestLine(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		const key, longest = "Environment=A=", 1<<20 - 1
		for size, want := range map[int]string{longest: "loaded", longest + 1: "error"} {
			name := fmt.Sprintf("long-%d.service", size)
			h.PutFile(path.Join(h.UnitDir, name), "[Service]\nExecStart=true\n"+key+strings.Repeat("x", size-len(key))+"\n")
			h.Reload()
			if got := h.Property(name, "LoadState"); got != want {
				t.Errorf("with a line of %d bytes a unit is %s, want %s", size, got, want)
			}
		}
	})
}

// Whatever lies in the directories, daemon-reload ends, says so, and makes the
// other endpoints.
func TestOddFiles(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		dir := h.QuadletDir
		h.Must(t, "mkdir", "-p", dir+"/directory.container", dir+"/loop.d")
		h.Must(t, "ln", "-s", "loop", dir+"/loop")
		h.Must(t, "ln", "-s", "loop.container", dir+"/loop.container")
		h.Must(t, "ln", "-s", "missing", dir+"/gone.container")
		h.Must(t, "ln", "-s", ".", dir+"/again")
		h.PutFile("locked.container", "[Container]\n[ScaleToZero]\n")
		h.Must(t, "chmod", "0", dir+"/locked.container")
		h.PutFile("data.volume", "[Volume]\n[ScaleToZero]\n")
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		h.MustGet()
		h.Asleep()
		h.Wait("the journal tells of the volume", func() bool {
			text, err := h.Journal(t.Context(), "")
			return err == nil && strings.Contains(text, dir+"/data.volume:2:1: error: [ScaleToZero] is for .container, .pod and .kube files")
		})
	})
}

// A plain container that publishes the port of a socket is told at
// daemon-reload.
func TestPublishedTwice(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile("plain.container", "[Container]\nImage=localhost/none\n"+h.Publish()+"\n")
		h.PutFile("app.container", "[Container]\nImage=localhost/app\n"+h.Publish()+"\n[ScaleToZero]\n")
		h.Reload()
		h.Wait("the journal has both lines", func() bool {
			text, err := h.Journal(t.Context(), "")
			return err == nil && strings.Contains(text, "app.container:3:1: error: ") && strings.Contains(text, "plain.container:3:1: error: ")
		})
		h.Expect("app-proxy.socket", "inactive")
	})
}

// A range of ports listens on each of them, and nothing else does.
func TestPortRange(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		first := 9000 + 10*(h.Port-8080)
		h.App("app", "-http :80 -http :81 -http :82", fmt.Sprintf("PublishPort=127.0.0.1:%d-%d:80-82", first, first+2), "[ScaleToZero]", "IdleTimeout=1s")
		var want []string
		for i := range 3 {
			h.Port = first + i
			h.MustGet()
			want = append(want, net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i)))
		}
		var got []string
		for _, field := range strings.Fields(h.Property("app-proxy.socket", "Listen")) {
			if field != "(Stream)" {
				got = append(got, field)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the socket listens on %q, want %q", got, want)
		}
		h.Asleep()
		if _, err := os.Stat(h.M.Host(filepath.Join(h.GeneratorDir, "app-proxy.socket"))); err != nil {
			t.Error(err)
		}
	})
}
