package generator

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// podPlan is the plan of shop.pod with containers, as far as it goes without a
// Quadlet.
func podPlan(members map[string]string) (*Plan, *Endpoint) {
	parse := func(name, text string) *quadlet.File {
		f, _ := quadlet.Parse("/etc/containers/systemd/"+name, []byte(text))
		return f
	}
	files := []*quadlet.File{parse("shop.pod", "[Pod]\nPublishPort=8080:80\n[ScaleToZero]\n")}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range members {
			if !yield(name) {
				return
			}
		}
	}) {
		files = append(files, parse(name, "[Container]\nImage=localhost/x\n"+members[name]+"\n"))
	}
	plan := NewPlan(quadlet.Search{Getenv: func(string) string { return "" }}, files)
	return plan, plan.Endpoints[0]
}

// Who is upheld, who runs once and who is left alone is a matter of the files.
func TestMembers(t *testing.T) {
	plan, e := podPlan(map[string]string{
		"web.container":    "Pod=shop.pod",
		"db.container":     "Pod=shop.pod\nServiceName=base",
		"init.container":   "Pod=shop.pod\n[Service]\nType=oneshot",
		"stays.container":  "Pod=shop.pod\n[Service]\nType=oneshot\nRemainAfterExit=yes",
		"cache.container":  "Pod=shop.pod\nStartWithPod=no\n",
		"user.container":   "[Unit]\nWants=cache.service",
		"backup.container": "Pod=shop.pod\nStartWithPod=no\n[Service]\nType=oneshot",
		"other.container":  "Pod=other.pod",
	})
	if e.Refused() {
		t.Fatal(plan.All())
	}
	for what, tt := range map[string]struct{ got, want string }{
		"upheld":    {strings.Join(e.upheld(), " "), "shop-pod.service base.service stays.service web.service"},
		"jobs":      {strings.Join(e.jobs(), " "), "init.service"},
		"all":       {strings.Join(e.services(), " "), "shop-pod.service cache.service base.service init.service stays.service web.service"},
		"needed by": {strings.Join(e.NeededBy(), " "), "backup.service user.service"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %s, want %s", what, tt.got, tt.want)
		}
	}
	for _, u := range e.needed() {
		text := string(u.Text())
		if !strings.Contains(text, "Upholds=shop-pod.service base.service stays.service web.service") || !strings.Contains(text, "Wants=init.service") ||
			strings.Contains(text, "cache.service") != strings.HasPrefix(u.Name, "user.service.d/") {
			t.Errorf("%s:\n%s", u.Name, text)
		}
	}
}

// What ends well stays so, unless its file wants it back.
func TestMayEnd(t *testing.T) {
	for service, want := range map[string]bool{
		"": true, "Restart=on-failure": true, "Restart=no": true, "Restart=always\nRestart=": true,
		"Restart=always": false, "Restart=on-success": false, "Type=oneshot": false, "RemainAfterExit=no": false,
	} {
		f, _ := quadlet.Parse("/etc/containers/systemd/x.container", []byte("[Service]\n"+service+"\n"))
		if got := mayEnd(f); got != want {
			t.Errorf("%q may end: %t", service, got)
		}
	}
}

// What would be another one's than the pod's is refused at its line.
func TestRefusedMembers(t *testing.T) {
	for _, line := range []string{"PodmanArgs=--net host", "PodmanArgs=--pod=x", "PodmanArgs=-p 80:80", "PodmanArgs=-p80:80", "StartWithPod=maybe"} {
		_, e := podPlan(map[string]string{"web.container": "Pod=shop.pod", "bad.container": "Pod=shop.pod\n" + line})
		if !e.Refused() || e.Diagnostics[0].Pos.Line != 4 {
			t.Errorf("%s: %v", line, e.Diagnostics)
		}
	}
}

// Whatever a container of a pod is called, no unit is written outside.
func TestNastyMembers(t *testing.T) {
	for _, text := range []string{
		"ServiceName=../../etc/x", "ServiceName=../../etc/x\nStartWithPod=no", "ServiceName=a b", "ServiceName=" + strings.Repeat("n", 250),
		"ServiceName=x@", "ServiceName=%n", "ServiceName=shop-pod", "ServiceName=shop-pod-proxy",
	} {
		plan, e := podPlan(map[string]string{"web.container": "Pod=shop.pod", "bad.container": "Pod=shop.pod\n" + text + "\n[Install]\nWantedBy=default.target"})
		if !strings.Contains(text, "StartWithPod") && !e.Refused() {
			t.Errorf("%s is not refused", text)
		}
		if !e.Refused() {
			continue
		}
		for _, u := range plan.Units(Layout{Proxy: "/p", Zerolet: "/z"}) {
			if !filepath.IsLocal(u.Name) || len(filepath.Base(u.Name)) > 255 || filepath.Clean(u.Name) != u.Name {
				t.Errorf("%s: %s", text, u.Name)
			}
		}
		for _, u := range e.needed() {
			if !filepath.IsLocal(u.Name) {
				t.Errorf("%s: %s", text, u.Name)
			}
		}
	}
}

// A container outside that is bound to one of a pod comes and goes with that.
func TestBoundToMember(t *testing.T) {
	for _, name := range []string{"web.service", "web.container"} {
		plan, pod := podPlan(map[string]string{
			"web.container":    "Pod=shop.pod",
			"worker.container": "[Unit]\nBindsTo=" + name + "\nAfter=" + name + "\n[ScaleToZero]",
		})
		worker := plan.Endpoints[1]
		if !pod.Sleeps() || !worker.Sleeps() || len(pod.Needs) > 0 || !slices.Equal(worker.NeededBy(), []string{"web.service"}) {
			t.Errorf("%s: the pod is needed by %v, worker by %v: %v", name, pod.NeededBy(), worker.NeededBy(), plan.All())
		}
		worker.Service = worker.Spec.File
		u := worker.service(Layout{})
		if text := string(u.Text()); strings.Contains(text, "BindsTo") || !strings.Contains(text, "PartOf=web.service") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

// What needs the pod in turn, as the app does to which one is bound that the pod needs,
// is not required by the pod's target: it would stay up with it.
func TestNeedsOfPod(t *testing.T) {
	_, e := podPlan(map[string]string{
		"web.container":   "Pod=shop.pod\n[Unit]\nRequires=queue.service db.service",
		"db.container":    "Pod=shop.pod",
		"app.container":   "PublishPort=8081:80\n[Unit]\nRequires=db.service\n[ScaleToZero]",
		"queue.container": "[Unit]\nRequires=app.service store.service\n[ScaleToZero]",
		"store.container": "[ScaleToZero]",
	})
	if want := []string{"db.service", "shop-pod.service"}; !slices.Equal(slices.Sorted(slices.Values(e.required)), want) {
		t.Errorf("the pod requires %v, want %v", e.required, want)
	}
}

// A container that a target starts, and not the pod, gets a hint that can be followed.
func TestStartedByTarget(t *testing.T) {
	_, e := podPlan(map[string]string{
		"web.container":  "Pod=shop.pod",
		"work.container": "Pod=shop.pod\nStartWithPod=no\n[Install]\nWantedBy=default.target",
	})
	if d, awake := e.Awake(); !awake || !strings.Contains(d.Hint, "StartWithPod=no") {
		t.Errorf("awake: %t, %v", awake, d)
	}
}

// Podman removes the one that runs.
func TestPodmanNames(t *testing.T) {
	for _, text := range []string{"ContainerName=systemd-web", "ContainerName=taken"} {
		plan, e := podPlan(map[string]string{
			"web.container": "Pod=shop.pod", "x.container": "Pod=shop.pod\n" + text, "other.container": "ContainerName=taken",
		})
		if !e.Refused() {
			t.Errorf("%s is not refused: %v", text, plan.All())
		}
	}
	f, _ := quadlet.Parse("/etc/containers/systemd/other.pod", []byte("[Pod]\nPodName=systemd-shop\n"))
	_, e := podPlan(map[string]string{"web.container": "Pod=shop.pod"})
	plan := NewPlan(quadlet.Search{Getenv: func(string) string { return "" }}, append(e.Files(), f))
	if !plan.Endpoints[0].Refused() {
		t.Errorf("a second pod systemd-shop is not refused")
	}
}

// What stops before what it needs is started once that has stopped.
func TestPodNeeding(t *testing.T) {
	_, e := podPlan(map[string]string{
		"web.container": "Pod=shop.pod\n[Unit]\nRequires=db.container", "db.container": "Pod=shop.pod",
	})
	u := e.needing()
	for _, line := range []string{
		"Requires=shop-pod.service db.service", "Before=shop-pod.service db.service", "Wants=shop-pod.service db.service web.service",
	} {
		if text := string(u.Text()); !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s:\n%s", line, text)
		}
	}
	if !slices.Contains(e.upholds(), u.Name) {
		t.Errorf("%v are upheld", e.upholds())
	}
}
