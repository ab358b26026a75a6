package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// A container with Sleep=freeze is frozen when nobody is there, thawed for the next client, and stopped when
// nobody has come for long: then its app gets SIGTERM.
func TestFreeze(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for _, part := range []struct {
			name string
			test func(*testing.T, *harness.Host)
		}{
			{"thaw", thaws},
			{"verbs", frozenVerbs},
			{"kinds", frozenKinds},
			{"work", frozenWork},
			{"dependency", frozenDependency},
			{"calendar", frozenCalendar},
			{"pod", frozenPod},
			{"names", frozenNames},
		} {
			t.Run(part.name, func(t *testing.T) { part.test(t, &harness.Host{T: t, Session: h.Session, M: h.M, Port: h.Port}) })
		}
	})
}

// freezes are the lines of a section.
func freezes(lines ...string) []string {
	return append([]string{"[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze"}, lines...)
}

// declareApp has the app be made of these lines, and its sockets be those.
func declareApp(h *harness.Host, exec string, lines ...string) {
	h.Helper()
	h.App("app", exec, lines...)
	h.Must(h.T, "zerolet", "apply")
}

// forget removes the files of a service that sleeps.
func forget(h *harness.Host, files ...string) {
	h.Helper()
	for _, file := range files {
		h.Must(h.T, "rm", "--force", filepath.Join(h.QuadletDir, file))
	}
	h.Must(h.T, "zerolet", "apply")
}

func thaws(t *testing.T, h *harness.Host) {
	declare := func(lines ...string) {
		declareApp(h, "-http :80 -farewell", append([]string{h.Publish()}, freezes(lines...)...)...)
	}
	declare("StopAfter=infinity")
	id := h.MustGet()
	for range 3 {
		h.Frozen("app")
		if now := h.MustGet(); now != id {
			t.Fatalf("another container: it was stopped\n%s", h.LastJournal())
		}
	}
	h.WaitJournal("app-proxy.service", "app.service thawed for 127.0.0.1:", 3)
	h.Frozen("app")
	h.Control("stop", "app-proxy.service")
	h.Asleep()
	h.WaitJournal("app.service", "farewell", 1)

	declare("StopAfter=3s")
	h.MustGet()
	h.Asleep()
	h.WaitJournal("app-proxy.service", "frozen for 3s, app.service not needed", 1)
	h.WaitJournal("app.service", "farewell", 2)
}

// What the verbs say of a frozen service, and do with it.
func frozenVerbs(t *testing.T, h *harness.Host) {
	declareApp(h, "-http :80", append([]string{h.Publish()}, freezes()...)...)
	id := h.MustGet()
	h.Frozen("app")
	var status struct {
		Services []struct {
			Name, State, SleepsAt string
			LastWake              struct{ Frozen bool }
		}
	}
	look := func() {
		t.Helper()
		h.SyncJournal()
		if err := json.Unmarshal([]byte(h.Must(t, "zerolet", "status", "--json")), &status); err != nil || len(status.Services) != 1 {
			t.Fatalf("%+v, %v", status, err)
		}
	}
	if look(); status.Services[0].State != "frozen" || status.Services[0].SleepsAt == "" || status.Services[0].LastWake.Frozen {
		t.Errorf("while it is frozen: %+v", status)
	}
	if text := h.Must(t, "zerolet", "explain", "app"); !strings.Contains(text, "it is frozen then, and thawed for the next client") ||
		!strings.Contains(text, "it is frozen now") {
		t.Errorf("explain: %s", text)
	}
	h.Must(t, "zerolet", "doctor")
	h.Must(t, "zerolet", "apply")
	if text := h.Must(t, "zerolet", "wake", "app"); !strings.Contains(text, "app: awake after ") {
		t.Errorf("wake: %s", text)
	}
	if now := h.MustGet(); now != id {
		t.Error("another container has been woken")
	}
	h.Frozen("app")
	if look(); !status.Services[0].LastWake.Frozen {
		t.Errorf("after a thaw: %+v", status)
	}
	if text := h.Must(t, "zerolet", "history", "--since=1h"); !strings.Contains(text, " from frozen p50 ") || !strings.Contains(text, ", frozen ") {
		t.Errorf("history: %s", text)
	}
	if text := h.Must(t, "zerolet", "metrics"); !strings.Contains(text, `zerolet_frozen{manager="`) || !strings.Contains(text, "zerolet_thaw_seconds_count") {
		t.Errorf("metrics: %s", text)
	}
	if text := h.Must(t, "zerolet", "sleep", "app"); text != "app: asleep" {
		t.Errorf("sleep: %s", text)
	}
	h.Asleep()
}

// Clients of all kinds thaw the app, and a silent one does not keep it awake: it is hung up on before.
func frozenKinds(t *testing.T, h *harness.Host) {
	path := h.RuntimeDir + "/app-freeze.sock"
	network := "Network=host" // where root's proxy has an entry for this alone
	if h.UserManager {
		network = "Network=bridge"
	}
	declareApp(h, "-http :80 -udp :80", append(freezes("StopAfter=infinity", "ConnectionIdleTimeout=1s", "ReadyCheck=http:/",
		"Listen="+fmt.Sprint(h.Port)+":80", "Listen="+fmt.Sprint(h.Port)+":80/udp", "Listen=%t/app-freeze.sock:80"), "[Container]", network)...)
	silent := h.Connect()
	id := strings.TrimSpace(h.MustGet())
	h.Frozen("app")
	_ = silent.SetReadDeadline(time.Now().Add(harness.Patience))
	if n, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the silent client is not hung up on: %d bytes, %v", n, err)
	}
	c := h.DialUDP("127.0.0.1", h.Port)
	datagrams := 0
	say := func(text string) string {
		c.Say(text)
		datagrams++
		h.WaitJournal("app-proxy.service", "app.service thawed for udp:", datagrams)
		h.MustGet() // an app that takes its time for a datagram may be frozen again before it answers
		id, _ := c.Tallied(text)
		return id
	}
	for _, client := range []struct {
		name string
		ask  func() string
	}{
		{"udp", func() string { return say("x") }},
		{"unix", func() string {
			return h.Must(t, "curl", "--silent", "--show-error", "--fail", "--unix-socket", path, "http://app/")
		}},
		{"tcp", h.MustGet},
		{"udp again", func() string { return say("y") }},
	} {
		if now := strings.TrimSpace(client.ask()); now != id {
			t.Errorf("%s: %s has answered, not %s", client.name, now, id)
		}
		h.Frozen("app")
	}
	h.Must(t, "zerolet", "sleep", "--force", "app") // a session of UDP ends by silence alone
	h.Asleep()
}

// Who works, or has somebody inside by podman exec, is not frozen without a client.
func frozenWork(t *testing.T, h *harness.Host) {
	declareApp(h, "-http :80", append([]string{h.Publish()}, freezes("StopAfter=infinity", "BusyCPU=1%")...)...)
	ask := func(path string) {
		if _, err := h.GetPath(path); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, h.LastJournal())
		}
	}
	goesOn := func(why string) {
		ends := func() time.Time { return wire.ParseStatus(h.Property("app-proxy.service", "StatusText")).Ends }
		h.Wait("the idle time runs", func() bool { return !ends().IsZero() }, "app-proxy.service")
		first := ends()
		h.Wait("it was over twice", func() bool { return h.IsFrozen("app.service") || ends().After(first.Add(2*time.Second)) }, "app-proxy.service")
		if h.IsFrozen("app.service") {
			t.Fatalf("it is frozen while %s\n%s", why, h.LastJournal())
		}
	}
	c := h.Connect()
	id := h.MustGet()
	ask("/work")
	c.Close()
	goesOn("it works")
	c = h.Connect()
	ask("/rest")
	h.Must(t, "podman", "exec", "--detach", "systemd-app", "/app", "-delay", "1h", "-http", ":81")
	c.Close()
	goesOn("somebody is inside")
	h.Must(t, "pkill", "--full", "--exact", "/app -delay 1h -http :81")
	h.Frozen("app")
	if now := h.MustGet(); now != id {
		t.Error("another container has answered")
	}
	h.Frozen("app")
	h.Must(t, "zerolet", "sleep", "app")
	h.Asleep()
}

// A dependency is frozen with the one that needs it, after it, and thawed before.
func frozenDependency(t *testing.T, h *harness.Host) {
	image, err := h.AppImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h.PutFile("own.network", "[Network]\n")
	h.PutFile("db.container", "[Container]\nImage="+image+"\nExec=-http :80 -farewell\nNetwork=own.network\n[ScaleToZero]\n")
	declareApp(h, "-http :80", append([]string{h.Publish(), "Network=own.network", "[Unit]", "Requires=db.service", "After=db.service"}, freezes()...)...)
	ask := func() string {
		t.Helper()
		id, err := h.GetPath("/of?url=http://systemd-db/")
		if err != nil {
			t.Fatalf("%v\n%s", err, h.LastJournal())
		}
		return id
	}
	frozen := func() {
		t.Helper()
		h.Frozen("app")
		h.Wait("the database is frozen, too", func() bool { return h.IsFrozen("db.service") }, "app-proxy.service")
	}
	c := h.Connect()
	h.Wait("the app finds the database", func() bool { // Podman's DNS server learns of it in its own time
		_, err := h.GetPath("/of?url=http://systemd-db/")
		return err == nil
	}, "app.service")
	id := ask()
	writes := h.WatchFreezer("app.service", "db.service")
	c.Close()
	frozen()
	if got := writes(); !slices.Equal(got, []string{"app.service", "db.service"}) {
		t.Errorf("frozen in this order: %q", got)
	}
	if now := ask(); now != id {
		t.Error("another database has answered")
	}
	if got := writes(); len(got) < 2 || got[0] != "db.service" || got[1] != "app.service" { // it may be frozen again
		t.Errorf("thawed in this order: %q", got)
	}
	for range 2 {
		frozen()
		if now := ask(); now != id {
			t.Error("another database has answered")
		}
	}
	h.Frozen("app")
	h.Must(t, "zerolet", "sleep", "app")
	h.WaitState("db.service", "inactive")
	h.Asleep()
	h.WaitJournal("db.service", "farewell", 1)
	forget(h, "db.container")
}

// The calendar thaws, too.
func frozenCalendar(t *testing.T, h *harness.Host) {
	declareApp(h, "-http :80", append([]string{h.Publish()}, freezes("WakeOn=*-01-01 00:00", "StayAwake=1s")...)...)
	h.MustGet()
	h.Frozen("app")
	h.Control("start", "app-calendar.service")
	h.WaitJournal("app-proxy.service", "app.service thawed for calendar", 1)
	h.Frozen("app")
	h.Must(t, "zerolet", "sleep", "app")
	h.Asleep()
	declareApp(h, "-http :80", append([]string{h.Publish()}, freezes()...)...)
}

// Of a pod each container is frozen that has not ended for good, be it the first one.
func frozenPod(t *testing.T, h *harness.Host) {
	forget(h, "app.container")
	putMember(h, "shop", "a", "Exec=-h", "[Service]", "SuccessExitStatus=0 1 2")
	pod(h, append([]string{h.Publish()}, freezes()...)...)
	ask := func() string {
		t.Helper()
		id, err := h.GetPath("/of?url=http://127.0.0.1:5432")
		if err != nil {
			t.Fatalf("%v\n%s", err, h.LastJournal())
		}
		return id
	}
	isFrozen := func() bool { return h.IsFrozen("shop-web.service") && h.IsFrozen("shop-db.service") }
	h.Wait("the other one listens, too", func() bool { // nobody waits for that
		_, err := h.GetPath("/of?url=http://127.0.0.1:5432")
		return err == nil
	}, "shop-db.service")
	id := ask()
	h.Wait("one has ended", func() bool { return h.Property("shop-a.service", "SubState") == "exited" }, "shop-a.service")
	ended := h.Property("shop-a.service", "InvocationID")
	for range 2 {
		h.Wait("the pod is frozen", isFrozen, "shop-pod-proxy.service")
		if now := ask(); now != id {
			t.Error("another container has answered")
		}
	}
	h.Wait("the pod is frozen", isFrozen, "shop-pod-proxy.service")
	if again := h.Property("shop-a.service", "InvocationID"); again != ended {
		t.Error("the one that had ended was started anew")
	}
	h.Must(t, "zerolet", "sleep", "shop-pod")
	podAsleep(h)
}

// Who asks for the app by its name on a network thaws it.
func frozenNames(t *testing.T, h *harness.Host) {
	forget(h, "shop.pod", "shop-a.container", "shop-web.container", "db/shop-db.container")
	b := harness.NewBridge(h)
	b.Name(append([]string{"ContainerName=web", "Network=proxy.network"}, freezes("Listen=proxy.network:8096:80")...)...)
	h.Wait("the name is known", func() bool { _, err := b.Ask("web:8096"); return err == nil }, "app-standin.service")
	id := b.Of("web:8096")
	for range 2 {
		h.Frozen("app")
		if now := b.Of("web:8096"); now != id {
			t.Error("another container has answered")
		}
	}
	h.Must(t, "zerolet", "sleep", "app")
	b.Asleep()
}
