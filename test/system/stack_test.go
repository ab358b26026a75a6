package system

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/test/harness"
)

// stack is one of testdata/stacks, written for stock Quadlet as people write theirs: a
// directory of files without a section.
type stack struct {
	name  string
	ports []int             // of the host
	pod   string            // the name of its service, if it is one
	exec  map[string]string // what the app does in the place of each container
	asks  map[int][]string  // whom the app behind a port asks then
	ended string            // a container that ends by itself
}

func stacksOfPeople() []stack {
	return []stack{
		{name: "photos", ports: []int{2283}, exec: map[string]string{
			"photos-server": "-http :2283", "photos-machine-learning": "-http :3003", "photos-redis": "-http :6379", "photos-database": "-http :5432",
		}, asks: map[int][]string{2283: {"photos-machine-learning:3003", "photos-redis:6379", "photos-database:5432"}}},
		{name: "forge", ports: []int{3000}, pod: "forge-pod", exec: map[string]string{
			"forge-app": "-http :3000", "forge-db": "-http :5432", "forge-cache": "-http :6379", "forge-migrate": "-h",
		}, asks: map[int][]string{3000: {"127.0.0.1:5432", "127.0.0.1:6379"}}, ended: "forge-migrate"},
		{name: "papers", ports: []int{8000}, exec: map[string]string{
			"papers-web": "-http :8000", "papers-broker": "-http :6379", "papers-worker": "-http :5555",
		}, asks: map[int][]string{8000: {"systemd-papers-broker:6379", "systemd-papers-worker:5555"}}},
		{name: "vpn", ports: []int{8112, 9117}, exec: map[string]string{
			"tunnel": "-http :8000", "browser": "-http :8112", "search": "-http :9117",
		}, asks: map[int][]string{8112: {"127.0.0.1:8000", "127.0.0.1:9117"}}},
		{name: "catalog", ports: []int{8428, 3001}, exec: map[string]string{
			"index": "-http :8428", "crawler": "-http :8429", "shelves": "-http :3000", "cache": "-http :6379",
		}, asks: map[int][]string{3001: {"index:8428", "cache:6379"}, 8428: {"crawler:8429"}}},
	}
}

func (s stack) services() (names []string) {
	for name := range s.exec {
		names = append(names, name+".service")
	}
	if s.pod != "" {
		names = append(names, s.pod+".service")
	}
	return slices.Sorted(slices.Values(names))
}

// put copies the stack's files, and has the lab's image do for each container.
func (s stack) put(h *harness.Host, image string) {
	h.Helper()
	paths, err := filepath.Glob("testdata/stacks/" + s.name + "/*")
	if err != nil || len(paths) < len(s.exec) {
		h.Fatalf("%s: %q, %v", s.name, paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			h.Fatal(err)
		}
		name := s.name + "/" + filepath.Base(path)
		h.PutFile(name, string(text))
		if exec, is := s.exec[strings.TrimSuffix(filepath.Base(path), ".container")]; is {
			h.PutFile(name+".d/image.conf", fmt.Sprintf("[Container]\nImage=%s\nExec=%s\n", image, exec))
		}
	}
}

// suggestedStacks has whole stacks sleep with what "zerolet suggest" writes for them, and
// nothing else but a shorter time: all of each wakes, and its parts find each other.
func suggestedStacks(h *harness.Host) {
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	stacks := stacksOfPeople()
	for _, s := range stacks {
		s.put(h, image)
	}
	out := h.Must(h.T, "zerolet", "suggest", "--write")
	if n := strings.Count(out, "sleeps as a whole"); n != len(stacks) {
		h.Fatalf("%d of %d stacks sleep:\n%s", n, len(stacks), out)
	}
	h.Must(h.T, "sh", "-c", `for f in $(grep -lr ^PublishPort= "$0"); do echo IdleTimeout=1s >>"$f.d/zerolet.conf"; done`, h.QuadletDir)
	h.Must(h.T, "zerolet", "apply")
	var clients []net.Conn
	for _, s := range stacks {
		for _, port := range s.ports {
			clients = append(clients, h.ConnectTo(port))
		}
	}
	for _, s := range stacks {
		s.wakes(h)
	}
	for _, c := range clients {
		c.Close()
	}
	for _, s := range stacks {
		s.sleeps(h)
	}
	nothingLeft(h)
	if left := harness.Pods(h.T, h.Session); left != "" {
		h.Errorf("pods are left: %s", left)
	}
	for _, s := range stacks { // the other manager has the same ports
		h.Must(h.T, "rm", "-r", h.QuadletDir+"/"+s.name)
	}
	h.Must(h.T, "zerolet", "apply")
}

// recipeOfFour is the recipe of docs/recipes.md for a stack on a network, with the app in
// each image.
func recipeOfFour(h *harness.Host) {
	h.Helper()
	s := stacksOfPeople()[0]
	for name, text := range recipe(h.T, h, "Photos: an app with a database, a cache and a helper") {
		if exec := s.exec[strings.TrimSuffix(name, ".container")]; exec != "" {
			text = strings.Replace(text, "[Container]\n", "[Container]\nExec="+exec+"\n", 1)
		}
		h.PutFile(s.name+"/"+name, text)
	}
	h.PutFile(s.name+"/photos-server.container.d/idle.conf", "[ScaleToZero]\nIdleTimeout=1s\n")
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(s.ports[0])
	s.wakes(h)
	c.Close()
	s.sleeps(h)
	h.Must(h.T, "rm", "-r", h.QuadletDir+"/"+s.name)
	h.Must(h.T, "zerolet", "apply")
}

// sleeps waits until all of a stack is down.
func (s stack) sleeps(h *harness.Host) {
	h.Helper()
	for _, unit := range s.services() {
		h.WaitState(unit, "inactive")
	}
}

// wakes sees that all of a stack is up while it has clients, and answers.
func (s stack) wakes(h *harness.Host) {
	h.Helper()
	for _, port := range s.ports {
		get := func(path string) {
			h.Helper()
			if id := h.Must(h.T, "curl", "-sS", "--fail", "--max-time", "100", fmt.Sprintf("http://127.0.0.1:%d%s", port, path)); id == "" {
				h.Errorf("%s: nothing at port %d%s", s.name, port, path)
			}
		}
		get("/")
		for _, other := range s.asks[port] {
			h.Wait(s.name+" finds "+other, func() bool { // what comes after it may be later
				out, err := h.Session.Run(h.Context(), "curl", "-sS", "--fail", "--max-time", "100", fmt.Sprintf("http://127.0.0.1:%d/of?url=http://%s/", port, other))
				return err == nil && out.Stdout != ""
			}, s.services()...)
		}
	}
	for _, unit := range s.services() {
		h.WaitState(unit, "active")
	}
	if s.ended != "" {
		h.Wait(s.ended+" has ended", func() bool { return h.Property(s.ended+".service", "SubState") == "exited" }, s.ended+".service")
	}
}
