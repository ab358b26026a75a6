package system

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/test/harness"
)

// memberCases are what the containers of a pod may ask for, and who may need them.
func memberCases() []podCase {
	published := func(lines ...string) func(*harness.Host, int) (pod, web []string) {
		return func(_ *harness.Host, port int) (pod, web []string) {
			return append([]string{fmt.Sprintf("PublishPort=%d:80", port)}, lines...), []string{"Exec=-http :80"}
		}
	}
	return []podCase{
		{"names", func(_ *harness.Host, port int) (pod, web []string) {
			return []string{"PodName=my-pod", fmt.Sprintf("PublishPort=%d:80", port)}, []string{"Exec=-http :80", "ContainerName=my-web"}
		}, hasNames},
		{"socket", published("[ScaleToZero]", "Listen=%t/pod-cases/web.sock:80"), answersBySocket},
		{"healthy", published(), waitsForHealth},
		{"lazy", func(_ *harness.Host, port int) (pod, web []string) {
			return []string{fmt.Sprintf("PublishPort=%d:80", port)},
				[]string{"Exec=-http :80", "[Unit]", "Requires=case-lazy-db.container", "After=case-lazy-db.container"}
		}, startsLazy},
		{"outside", published(), neededOutside},
		{"worker", published(), takesWorkerAlong},
	}
}

// putMember declares another container of a pod that a test is about.
func putMember(h *harness.Host, pod, member string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.PutFile(pod+"-"+member+".container", "[Container]\nImage="+image+"\nPod="+pod+".pod\n"+strings.Join(lines, "\n")+"\n")
}

// hasNames has the pod, its containers and their services be called as they say.
func hasNames(h *harness.Host, name string, port int) {
	base := name + "-called"
	putMember(h, name, "db", "Exec=-http :5432", "ServiceName="+base)
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(port)
	answers(h, name, port)
	if pod := h.Must(h.T, "podman", "inspect", "--format", "{{.Pod}}", "my-web"); pod != h.Must(h.T, "podman", "pod", "inspect", "--format", "{{.ID}}", "my-pod") {
		h.Errorf("my-web is in pod %s", pod)
	}
	h.Expect(base+".service", "active")
	c.Close()
	h.WaitState(base+".service", "inactive")
}

// answersBySocket has a client come to a unix socket.
func answersBySocket(h *harness.Host, name string, _ int) {
	if id := h.Must(h.T, "curl", "-sS", "--max-time", "100", "--unix-socket", h.RuntimeDir+"/pod-cases/web.sock", "http://web/"); id == "" {
		h.Errorf("%s: no answer", name)
	}
}

// waitsForHealth has the client wait for a container that it does not talk to, until
// that is healthy.
func waitsForHealth(h *harness.Host, name string, port int) {
	dir := "/srv/health-" + h.Name
	h.M.Root().Must(h.T, "mkdir", "-p", dir)
	h.M.Root().Must(h.T, "chmod", "777", dir)
	putMember(h, name, "db", "Exec=-http :5432", "Volume="+dir+":/health", "Notify=healthy",
		`HealthCmd=["/app","-exists","/health/yes"]`, "HealthInterval=1h", "HealthRetries=1", "HealthOnFailure=kill")
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(port)
	db, proxy := name+"-db.service", name+"-pod-proxy.service"
	h.WaitState(name+"-web.service", "active")
	h.WaitState(db, "activating")
	h.Expect(proxy, "inactive")
	h.Must(h.T, "touch", dir+"/yes")
	answers(h, name, port)
	healthy, began := moment(h, db, "ActiveEnter"), moment(h, proxy, "ActiveEnter")
	if healthy == 0 || began < healthy {
		h.Errorf("the proxy ran at %d, db was healthy at %d", began, healthy)
	}
	c.Close()
	h.WaitState(db, "inactive")
}

// moment is when something has last happened to a unit, in microseconds of systemd's clock.
func moment(h *harness.Host, unit, event string) int64 {
	h.Helper()
	at, err := strconv.ParseInt(h.Property(unit, event+"TimestampMonotonic"), 10, 64)
	if err != nil {
		h.Fatal(err)
	}
	return at
}

// startsLazy has a container with StartWithPod=no start with the one that needs it,
// and stop with the pod.
func startsLazy(h *harness.Host, name string, port int) {
	putMember(h, name, "db", "Exec=-http :5432", "StartWithPod=no")
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(port)
	answers(h, name, port)
	h.Expect(name+"-db.service", "active")
	c.Close()
	h.WaitState(name+"-db.service", "inactive")
}

// neededOutside has units outside the pod need it, or one of its containers: while they
// run it is up, and with them it goes. A unit that is no Quadlet file gets just what it
// names, unless the pod's [Install] names that unit.
func neededOutside(h *harness.Host, name string, port int) {
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	putMember(h, name, "db", "Exec=-http :5432")
	db, web := name+"-db.service", name+"-web.service"
	service := func(unit, lines string) {
		h.PutFile(h.UnitDir+"/"+name+"-"+unit+".service", lines+"[Service]\nExecStart=sleep infinity\n")
	}
	service("job", "[Unit]\nRequires="+db+"\nAfter="+db+"\n")
	service("held", "")
	h.PutFile(name+".pod.d/held.conf", "[Install]\nWantedBy="+name+"-held.service\n")
	h.PutFile(name+"-other.container", "[Unit]\nRequires="+name+"-db.container\nAfter="+name+"-db.container\n"+
		"[Container]\nImage="+image+"\nExec=-http :80\n[Quadlet]\nDefaultDependencies=no\n")
	h.Must(h.T, "zerolet", "apply")
	for unit, whole := range map[string]bool{"job": false, "other": true, "held": true} {
		unit = name + "-" + unit + ".service"
		h.Control("start", unit)
		h.WaitState(db, "active")
		if whole {
			h.WaitState(web, "active")
		}
		first := h.Property(db, "InvocationID")
		answers(h, name, port)
		h.WaitState(name+"-pod-proxy.service", "inactive")
		h.Expect(unit, "active")
		h.Expect(db, "active")
		if again := h.Property(db, "InvocationID"); again != first {
			h.Errorf("%s: db was started anew", unit)
		}
		h.Control("stop", unit)
		for _, gone := range []string{db, web, name + "-pod.service"} {
			h.WaitState(gone, "inactive")
		}
	}
}

// takesWorkerAlong has containers outside that are bound to one of the pod come and go
// with that, also when it is started anew.
func takesWorkerAlong(h *harness.Host, name string, port int) {
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	web := name + "-web.service"
	var workers []string
	for _, key := range []string{"BindsTo", "PartOf"} {
		worker := name + "-" + strings.ToLower(key)
		h.PutFile(worker+".container", "[Unit]\n"+key+"="+web+"\nAfter="+web+"\n[Container]\nImage="+image+"\nExec=-http :80\n[ScaleToZero]\n")
		workers = append(workers, worker+".service")
	}
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(port)
	answers(h, name, port)
	first := make(map[string]string)
	for _, worker := range workers {
		h.WaitState(worker, "active")
		first[worker] = h.Property(worker, "InvocationID")
	}
	h.Control("restart", web)
	held := h.ConnectTo(port) // keeps them awake, as c does not: what that led to is gone
	for _, worker := range workers {
		h.WaitState(worker, "active")
		if again := h.Property(worker, "InvocationID"); again == first[worker] {
			h.Errorf("%s has outlived what it is bound to", worker)
		}
	}
	c.Close()
	held.Close()
	for _, gone := range append(workers, web, name+"-pod.service") {
		h.WaitState(gone, "inactive")
	}
}
