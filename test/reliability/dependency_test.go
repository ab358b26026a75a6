package reliability

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// database declares db.container, which only others need, on a network on
// which they find it by name.
func database(h *harness.Host, lines ...string) {
	h.Helper()
	h.PutFile("own.network", "[Network]\n")
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	lines = append([]string{"[Container]", "Image=" + image, "Exec=-http :80 -echo :81", "Network=own.network", "[ScaleToZero]"}, lines...)
	h.PutFile("db.container", strings.Join(lines, "\n")+"\n")
}

// needsDatabase is the part of a file that needs it.
func needsDatabase(name string) []string {
	return []string{"Network=own.network", "[Unit]", "Requires=" + name, "After=" + name, "[ScaleToZero]", "IdleTimeout=1s"}
}

// askDatabase has the app ask the database, by its name.
const askDatabase = "/of?patient=yes&url=http://systemd-db/"

// ofDatabase is what the database answers when the app asks it.
func ofDatabase(h *harness.Host) string {
	h.Helper()
	id, err := h.GetPath(askDatabase)
	if err != nil {
		h.Fatalf("%v\n%s", err, h.LastJournal())
	}
	return id
}

func databaseAsleep(h *harness.Host) {
	h.Helper()
	h.WaitState("db.service", "inactive")
	h.Asleep()
}

// What a container needs wakes and sleeps with it, in order, and by nothing
// else: neither daemon-reload nor [Install] starts it.
func TestDependency(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		database(h, "[Install]", "WantedBy=default.target")
		h.App("app", "-http :80", append([]string{h.Publish()}, needsDatabase("db.service")...)...)
		h.Control("start", "default.target")
		for range 2 {
			h.Expect("db.service", "inactive")
			h.Expect("app.service", "inactive")
			c := h.Connect() // without it, all may sleep again before it is looked at
			ofDatabase(h)
			h.Expect("db.service", "active")
			c.Close()
			databaseAsleep(h)
			first := func(unit, event string) string { return h.Property(unit, event+"TimestampMonotonic") }
			if db, app := first("db.service", "ActiveEnter"), first("app.service", "InactiveExit"); !earlier(db, app) {
				t.Errorf("the app has begun to start at %s, the database was up at %s", app, db)
			}
			if app, db := first("app.service", "InactiveEnter"), first("db.service", "ActiveExit"); !earlier(app, db) {
				t.Errorf("the database has begun to stop at %s, the app was gone at %s", db, app)
			}
		}
	})
}

// earlier compares two times as systemctl shows them.
func earlier(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a <= b }

// A database shared by two stays up while either is awake. One of them names
// the file, as Quadlet has it.
func TestSharedDependency(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		database(h)
		h.App("other", "-echo :80", append([]string{fmt.Sprintf("PublishPort=%d:80", h.Port+10)}, needsDatabase("db.container")...)...)
		h.App("app", "-http :80", append([]string{h.Publish()}, needsDatabase("db.service")...)...)
		for _, property := range []string{"Requires", "After"} {
			if units := strings.Fields(h.Property("other.service", property)); !slices.Contains(units, "db.service") {
				t.Errorf("%s=%s", property, units)
			}
		}
		app := h.Connect() // until the other one is up
		first := ofDatabase(h)
		c, err := h.M.Dial(h.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", h.Port+10))
		if err != nil {
			t.Fatal(err)
		}
		exchange(h, c, "awake")
		app.Close()
		h.WaitState("app.service", "inactive")
		h.Expect("db.service", "active")
		if again := ofDatabase(h); again != first {
			t.Errorf("the database has slept while it was needed: %s, then %s", first, again)
		}
		c.Close()
		h.WaitState("other.service", "inactive")
		databaseAsleep(h)
		if again := ofDatabase(h); again == first {
			t.Error("the database has not slept")
		}
		databaseAsleep(h)
	})
}

// A database that dies under traffic is back while its app runs, which keeps
// its clients. Restart= in its file is not needed for that.
func TestDependencyKilled(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		database(h)
		h.App("app", "-http :80 -echo :81", append([]string{h.Publish(), fmt.Sprintf("PublishPort=%d:81", h.Port+10)}, needsDatabase("db.service")...)...)
		c, err := h.M.Dial(h.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", h.Port+10))
		if err != nil {
			t.Fatal(err)
		}
		exchange(h, c, "before")
		first, app := ofDatabase(h), h.MustGet()
		h.Must(t, "podman", "kill", "systemd-db")
		h.Wait("the database is back", func() bool {
			id, err := h.GetPath(askDatabase)
			return err == nil && id != first
		}, "db.service")
		exchange(h, c, "after")
		if again := h.MustGet(); again != app {
			t.Errorf("the app was started anew: %s, then %s", app, again)
		}
		c.Close()
		databaseAsleep(h)
	})
}

// While the database cannot start the client is held, and is answered once it
// can. When the client leaves, nothing is tried any more, Restart= or not.
func TestDependencyFails(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		repair := breakStart(h, "db.service", "")
		database(h, "[Service]", "Restart=always", "RestartSec=100ms")
		h.App("app", "-http :80", append([]string{h.Publish()}, needsDatabase("db.service")...)...)
		c := h.Connect()
		h.Wait("the database has failed", func() bool { return tries(h) > 2 }, "db.service")
		h.Expect("app.service", "inactive")
		abort(c)
		h.WaitState("app-proxy.service", "inactive")
		h.WaitState("db.service", "failed")
		a := backgroundPath(h, askDatabase)
		before := tries(h)
		h.Wait("it is tried again", func() bool { return tries(h) > before }, "db.service")
		repair()
		(<-a).must(h)
		databaseAsleep(h)
	})
}

// A client that comes while either stops is answered by the next start of it.
func TestDependencyAtTheEdge(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		database(h)
		h.App("app", "-http :80", append([]string{h.Publish()}, needsDatabase("db.service")...)...)
		for _, unit := range []string{"app.service", "db.service"} {
			g := newGate(h, unit, "ExecStopPost")
			h.Reload()
			ofDatabase(h)
			waitStage(h, unit, "stop-post")
			a := backgroundPath(h, askDatabase)
			// That of the app waits for the stop.
			waitStartWaits(h, "app-proxy.service")
			g.open()
			(<-a).must(h)
			databaseAsleep(h)
			h.Must(t, "rm", filepath.Join(h.UnitDir, unit+".d", "50-test.conf"))
			h.Reload()
		}
	})
}

// While a database stops, systemd refuses the start that Upholds= asks for, and asks
// no more. The client of an app whose first start fails, and one whose database
// somebody stops, are answered all the same, whoever starts the app.
func TestDependencyStops(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		database(h)
		dropIn(h, "app.service", "[Service]", "ExecStartPre=/bin/sh -c 'echo >>%t/tries; test $(wc -l <%t/tries) -gt 1'")
		g := newGate(h, "db.service", "ExecStopPost")
		for i, by := range []string{"IdleTimeout=1h", "WakeBy=data", "AllowFrom=127.0.0.0/8"} {
			if i > 0 {
				g.shut()
			}
			h.App("app", "-http :80", append([]string{h.Publish()}, append(needsDatabase("db.service"), "IdleTimeout=1h", by)...)...)
			ofDatabase(h)

			h.Control("stop", "--no-block", "db.service")
			waitStage(h, "db.service", "stop-post")
			h.Expect("app-proxy.service", "active")
			h.Expect("app.service", "inactive")
			a := backgroundPath(h, askDatabase)
			g.open()
			(<-a).must(h)
			h.Must(t, "zerolet", "sleep", "--force", "app")
			databaseAsleep(h)
			h.Must(t, "rm", filepath.Join(h.RuntimeDir, "tries"))
		}
	})
}
