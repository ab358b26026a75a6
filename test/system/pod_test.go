package system

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// pod declares shop.pod with its settings, and its two containers: web has the
// app, which asks db. The latter stands in another directory, and needs no more
// than to be named.
func pod(h *harness.Host, lines ...string) {
	h.Helper()
	podOf(h, "-http :80 -greet :81 -udp :82", lines...)
}

func podOf(h *harness.Host, web string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.PutFile("shop.pod", "[Pod]\n"+strings.Join(lines, "\n")+"\n")
	h.PutFile("shop-web.container", "[Unit]\nRequires=shop-db.container\nAfter=shop-db.container\n"+
		"[Container]\nImage="+image+"\nExec="+web+"\nPod=shop.pod\n[Install]\nWantedBy=default.target\n")
	h.PutFile("db/shop-db.container", "[Container]\nImage="+image+"\nExec=-http :5432\nPod=shop.pod\n[Service]\nRestart=always\n")
	h.Reload()
	h.WaitState("shop-pod-proxy.socket", "active")
}

// answerOf is what another container tells the app. It may listen a moment after the
// app does: all that is known of it is that it has been started.
func answerOf(h *harness.Host, url string) (answer string) {
	h.Helper()
	h.Wait(url+" answers the app", func() (ok bool) {
		var err error
		answer, err = h.GetPath("/of?url=" + url)
		return err == nil && answer != ""
	})
	return answer
}

func podAsleep(h *harness.Host) { h.Helper(); h.AsleepPod("shop-pod", "shop-web", "shop-db") }

// A pod and its containers wake with the first client and go with the last one:
// no container, no pod, no file is left.
func TestPod(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, takesOver)
	harness.Each(t, m, wakesPod)
	harness.Each(t, m, podPage)
}

func wakesPod(t *testing.T, h *harness.Host) {
	pod(h, h.Publish(), fmt.Sprintf("PublishPort=[::1]:%d:81", h.Port+100), fmt.Sprintf("PublishPort=%d:82/udp", h.Port+200),
		"[ScaleToZero]", "IdleTimeout=1s", "[Install]", "WantedBy=default.target")
	// As stock Quadlet, zerolet reads the first one of a name. The other's image is nowhere.
	h.PutFile("elsewhere/shop-db.container", "[Container]\nImage=localhost/none\nPod=shop.pod\n")
	out, err := h.Session.Run(t.Context(), "zerolet", "check", "shop")
	if want := "/elsewhere/shop-db.container:1:1: warning: not read, as by Quadlet: "; err != nil || !strings.Contains(out.Stderr, want) {
		t.Errorf("check: %v: %s", err, out.Stderr)
	}
	h.Reload()
	h.Control("start", "default.target")
	all := []string{"shop-pod.service", "shop-web.service", "shop-db.service"}
	for _, unit := range append(all, "shop-pod-proxy.service") {
		h.Expect(unit, "inactive")
	}
	starts := make(map[string]bool)
	for range 2 {
		c := h.Connect()
		starts[strings.TrimSpace(h.MustGet())] = true
		for _, unit := range all {
			h.Expect(unit, "active")
		}
		if policy := h.Must(t, "podman", "pod", "inspect", "--format", "{{.ExitPolicy}}", "systemd-shop"); policy != "continue" {
			t.Errorf("exit policy %s", policy)
		}
		if id := answerOf(h, "http://127.0.0.1:5432"); starts[id] {
			t.Errorf("web asks db, and %s answers", id)
		}
		starts[mustOn(h, net.JoinHostPort("::1", fmt.Sprint(h.Port+100)))] = true
		c.Close()
		podAsleep(h)
	}
	if len(starts) != 2 {
		t.Errorf("%d starts of web, want 2", len(starts))
	}
	u := h.DialUDP("127.0.0.1", h.Port+200)
	u.Say("hello")
	if id, _ := u.Tallied("hello"); starts[id] {
		t.Errorf("the containers were not stopped: %s answers again", id)
	}
	podAsleep(h)
}

// podCase is what a pod may ask for besides, each with a port of its own.
type podCase struct {
	name  string
	lines func(h *harness.Host, port int) (pod, web []string)
	test  func(h *harness.Host, name string, port int)
}

func podCases() []podCase {
	own := func(lines ...string) func(*harness.Host, int) (pod, web []string) {
		return func(_ *harness.Host, port int) (pod, web []string) {
			return append([]string{fmt.Sprintf("PublishPort=%d:80", port)}, lines...), []string{"Exec=-http :80 -peer :81"}
		}
	}
	return []podCase{
		{"address", func(_ *harness.Host, port int) (pod, web []string) {
			return []string{fmt.Sprintf("PublishPort=%d:81", port), fmt.Sprintf("PublishPort=%d:81/udp", port)}, []string{"Exec=" + peers(":81")}
		}, func(h *harness.Host, _ string, port int) { sees(h, port) }},
		{"userns", func(h *harness.Host, port int) (pod, web []string) {
			mode := "UserNS=auto"
			if h.UserManager {
				mode = "UserNS=keep-id"
			}
			// Not every user may bind 81.
			return []string{mode, fmt.Sprintf("PublishPort=%d:8081", port), fmt.Sprintf("PublishPort=%d:8081/udp", port)}, []string{"Exec=" + peers(":8081")}
		}, func(h *harness.Host, _ string, port int) { sees(h, port) }},
		{"host", func(_ *harness.Host, port int) (pod, web []string) {
			return []string{"Network=host", fmt.Sprintf("PublishPort=%d:%d", port, port+5)}, []string{fmt.Sprintf("Exec=-http :%d", port+5)}
		}, answers},
		{"none", own("Network=none"), answers},
		{"unix", func(h *harness.Host, port int) (pod, web []string) {
			dir := "/srv/pod-" + h.Name
			h.M.Root().Must(h.T, "mkdir", "-p", dir)
			h.M.Root().Must(h.T, "chmod", "777", dir)
			return []string{"Volume=" + dir + ":/run/web", "[ScaleToZero]", fmt.Sprintf("Listen=%d:%s/app.sock", port, dir)},
				[]string{"Exec=-http unix:/run/web/app.sock", "PodmanArgs=--umask=0000"} // the proxy is nobody in particular
		}, answers},
		{"ready", own("[ScaleToZero]", "ReadyCheck=http:/"), answers},
		{"proxy", own("[ScaleToZero]", "ClientAddress=proxy", "MaxConnections=1", "ConnectionIdleTimeout=1min"), answers},
		{"allowed", own("[ScaleToZero]", "AllowFrom=127.0.0.1"), letsIn},
		{"job", func(_ *harness.Host, port int) (pod, web []string) {
			return []string{fmt.Sprintf("PublishPort=%d:80", port)}, []string{"Exec=-http :80"}
		}, runsJobs},
	}
}

// letsIn has a client that may come, after one that wakes nothing.
func letsIn(h *harness.Host, name string, port int) {
	before := h.Property(name+"-pod.service", "InvocationID")
	out, err := h.Session.Run(h.Context(), "curl", "-sS", "--interface", "127.0.0.2", "--max-time", "3", fmt.Sprintf("http://127.0.0.1:%d/", port))
	if err == nil {
		h.Errorf("127.0.0.2 is answered: %s", out.Stdout)
	}
	if after := h.Property(name+"-pod.service", "InvocationID"); after != before {
		h.Errorf("127.0.0.2 has woken the pod")
	}
	answers(h, name, port)
}

// answers has a client that finds the app.
func answers(h *harness.Host, name string, port int) {
	if id := h.Must(h.T, "curl", "-sS", "--max-time", "100", fmt.Sprintf("http://127.0.0.1:%d/", port)); id == "" {
		h.Errorf("%s: no answer", name)
	}
}

// runsJobs has a container of the pod that ends by itself run once for each wake,
// and one with StartWithPod=no when it is started, to its end.
func runsJobs(h *harness.Host, name string, port int) {
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	log := "/srv/job-" + h.Name
	h.M.Root().Must(h.T, "mkdir", "-p", log)
	h.M.Root().Must(h.T, "chmod", "777", log)
	runs := func(job string) int {
		n, _ := strconv.Atoi(h.Must(h.T, "sh", "-c", "cat "+log+"/"+job+"* | wc -l")) // none has ended yet: no file
		return n
	}
	job := func(job, more, service string) {
		h.PutFile(name+"-"+job+".container", "[Container]\nImage="+image+"\nExec=-h\nPod="+name+".pod\n"+more+
			"[Service]\n"+service+"\nSuccessExitStatus=0 1 2\nExecStopPost=/bin/sh -c 'echo >>"+log+"/"+job+"'\n")
	}
	job("init", "", "Type=oneshot")
	job("ends", "", "Restart=on-failure") // which is no failure
	job("again", "", "Restart=always")
	job("backup", "StartWithPod=no\n", "Type=oneshot")
	h.Must(h.T, "zerolet", "apply")
	for range 2 {
		c := h.ConnectTo(port)
		before := runs("again")
		answers(h, name, port)
		h.Wait("one has ended, and another one runs again", func() bool {
			return h.Property(name+"-ends.service", "SubState") == "exited" && runs("again") > before+1
		}, name+"-ends.service", name+"-again.service")
		c.Close()
		h.WaitState(name+"-pod.service", "inactive")
	}
	h.Control("start", name+"-backup.service")
	h.WaitState(name+"-pod.service", "inactive")
	for job, want := range map[string]int{"init": 3, "ends": 3, "backup": 1} {
		if got := runs(job); got != want {
			h.Errorf("%s has run %d times, want %d", job, got, want)
		}
	}
}

// Networks, user namespaces and keys mean for a pod what they mean for a
// container.
func TestPodCases(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{Outside: true})
	m.Root().Must(t, "sh", "-c", "useradd --system containers; echo containers:200000:1000000 | tee -a /etc/subuid >>/etc/subgid")
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		name := func(test podCase) string { return "case-" + test.name }
		port := func(i int) int { return h.Port + 20*(i+1) }
		cases := slices.Concat(podCases(), memberCases())
		for i, test := range cases {
			pod, web := test.lines(h, port(i))
			h.PutFile(name(test)+".pod", strings.Join(append([]string{"[Pod]"}, pod...), "\n")+"\n[ScaleToZero]\nIdleTimeout=1s\n")
			h.PutFile(name(test)+"-web.container", strings.Join(append([]string{"[Container]", "Image=" + image, "Pod=" + name(test) + ".pod"}, web...), "\n")+"\n")
		}
		h.Reload()
		var all sync.WaitGroup
		places := make(chan struct{}, lab.Bound()) // not T.Parallel: see harness.EachAtOnce
		for i, test := range cases {
			all.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				t.Run(test.name, func(t *testing.T) {
					host := *h
					host.T = t
					host.WaitState(name(test)+"-pod-proxy.socket", "active")
					test.test(&host, name(test), port(i))
					host.WaitState(name(test)+"-pod.service", "inactive")
				})
			})
		}
		all.Wait()
		for _, test := range cases {
			h.AsleepPod(name(test)+"-pod", name(test)+"-web")
		}
	})
}

// The recipe of docs/recipes.md, as it stands there but for the images, which the
// lab cannot pull, and the port. On its machine are then the recipe for a stack on a
// network, and stacks that zerolet has suggested to have sleep.
func TestPodRecipe(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		recipe := between(t, read(t, "../../docs/recipes.md"), "in a pod\n", "\n## ")
		recipe = strings.ReplaceAll(recipe, "8080", fmt.Sprint(h.Port))
		ports := map[string]int{"shop-web": 80, "shop-db": 5432, "shop-cache": 6379}
		for _, block := range strings.Split(recipe, "```ini\n# ")[1:] {
			name, text, _ := strings.Cut(block, "\n")
			text, _, _ = strings.Cut(text, "```")
			h.PutFile(name, text)
			if port := ports[strings.TrimSuffix(name, ".container")]; port != 0 {
				h.PutFile(name+".d/image.conf", fmt.Sprintf("[Container]\nImage=%s\nExec=-http :%d\n", image, port))
			}
		}
		h.PutFile("shop.pod.d/idle.conf", "[ScaleToZero]\nIdleTimeout=1s\n")
		if out := h.Must(t, "zerolet", "check"); !strings.Contains(out, "shop-pod.service: listens on") || !strings.Contains(out, "with shop-cache.service shop-db.service shop-web.service") {
			t.Errorf("check: %s", out)
		}
		h.Must(t, "zerolet", "apply")
		verifyOf(h, "shop-pod", "shop-web.service", "shop-db.service", "shop-cache.service")
		for _, port := range []int{5432, 6379} {
			answerOf(h, fmt.Sprintf("http://localhost:%d", port))
		}
		for _, verb := range []string{"wake shop", "status shop-pod", "status shop-db", "explain shop-web", "sleep --force shop", "explain shop.pod", "history shop", "metrics shop-pod", "render shop"} {
			h.Must(t, append([]string{"zerolet"}, strings.Fields(verb)...)...)
		}
		h.AsleepPod("shop-pod", "shop-web", "shop-db", "shop-cache")
		h.Must(t, "sh", "-c", `rm -r "$0"/shop*`, h.QuadletDir)
		recipeOfFour(h)
		suggestedStacks(h)
	})
}
