package system

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// The calendar wakes a container without any client, keeps it awake for as long
// as its times go on, and is gone with its line.
func TestCalendarWakes(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h", "WakeOn=*:*:*", "AutoStart=no")
		h.Control("start", "app-proxy.socket")
		h.WaitState("app.service", "active")
		h.Wait("status names the calendar", func() bool { return calendarStatus(h).LastWake.Client == "calendar" })
		woken := h.Property("app.service", "InvocationID")
		ends := func() time.Time { return wire.ParseStatus(h.Property("app-proxy.service", "StatusText")).Ends }
		h.Wait("the idle time runs", func() bool { return !ends().IsZero() }, "app-proxy.service")
		before, end := calls(h), ends()
		h.Wait("the calendar calls several times", func() bool { return calls(h) > before+3 })
		h.Wait("each was a use", func() bool { return ends().After(end.Add(2 * time.Second)) }, "app-proxy.service")
		if h.Property("app.service", "InvocationID") != woken {
			t.Errorf("another container: a call was no use\n%s", h.LastJournal())
		}
		h.Control("stop", "app-proxy.socket") // with what belongs to it
		h.Expect("app-calendar.timer", "inactive")
		h.WaitState("app.service", "inactive")
		h.Control("start", "app-proxy.socket")
		h.WaitState("app-calendar.timer", "active")
		h.WaitState("app.service", "active")

		h.PutFile("app.container", "[Container]\nImage=localhost/app\nExec=-http :80\n"+h.Publish()+"\n[ScaleToZero]\nIdleTimeout=1s\n")
		if out := h.Must(t, "zerolet", "apply", "--now"); !strings.Contains(out, "~ app: has other settings") {
			t.Errorf("apply: %s", out)
		}
		h.Expect("app-calendar.timer", "inactive")
		h.Asleep()
	})
}

// A call is a use, a wake lasts for StayAwake= at least, and who sleeps says when
// the next one is. A user's proxy that starts for whoever comes starts the
// container for the calendar, too.
func TestCalendarAndStayAwake(t *testing.T) {
	t.Parallel()
	const least = 5 * time.Second
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "StayAwake=5s", "WakeOn=2190-01-01", "WakeOn=2191-01-01 UTC", "AllowFrom=127.0.0.0/8")
		h.WaitState("app-calendar.timer", "active")
		if at := calendarStatus(h).WakesAt; at.Year() < 2189 || at.Year() > 2190 {
			t.Errorf("wakes at %s", at)
		}
		if out := h.Must(t, "zerolet", "status"); !strings.Contains(out, "wakes in ") {
			t.Errorf("status:\n%s", out)
		}
		call := func() { h.Control("start", "app-calendar.service") }
		for _, wake := range []func(){
			call,
			func() { h.MustGet() },
			func() { // a call in the middle
				c := h.Connect()
				h.MustGet()
				call()
				c.Close()
			},
		} {
			before := h.Property("app.service", "InvocationID")
			wake()
			h.Wait("the container is woken", func() bool { return h.Property("app.service", "InvocationID") != before }, "app.service")
			h.Asleep()
			// systemd's clock runs from before the proxy begins, until after it has ended.
			const proxy = "app-proxy.service"
			took := time.Duration(moment(h, proxy, "ExecMainExit")-moment(h, proxy, "ExecMainStart")) * time.Microsecond
			if took < least {
				t.Errorf("asleep %s after the wake", took)
			}
		}
		h.SyncJournal()
		if out := h.Must(t, "zerolet", "history"); !strings.Contains(out, "app: 3 wakes") {
			t.Errorf("history:\n%s", out)
		}
		h.Must(t, "zerolet", "doctor")
		h.Control("stop", "app-calendar.timer")
		h.WaitState("app-calendar.timer", "active") // Upholds=
		calendarIsGone(t, h)
	})
}

// Without its line or its file nothing of a calendar is left, whoever has the
// manager read that: zerolet apply, or somebody before it.
func calendarIsGone(t *testing.T, h *harness.Host) {
	t.Helper()
	for _, before := range []string{"", "a daemon-reload"} {
		for _, file := range []string{"", "a file"} {
			h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1h", "WakeOn=2190-01-01")
			h.WaitState("app-calendar.timer", "active")
			h.MustGet()
			if file == "" {
				h.Must(t, "rm", h.QuadletDir+"/app.container")
			} else {
				h.Must(t, "sed", "-i", "/^WakeOn/d", h.QuadletDir+"/app.container")
			}
			if before != "" {
				h.Reload()
				h.Expect("app-calendar.timer", "failed") // as any timer
			}
			h.Must(t, "zerolet", "apply", "--now")
			if state := h.State("app-calendar.timer"); state != "inactive" {
				t.Errorf("the timer is %s (before zerolet apply: %q, left: %q)", state, before, file)
			}
		}
	}
}

// calls are how often the calendar of app has called.
func calls(h *harness.Host) int {
	h.Helper()
	text, err := h.Journal(h.Context(), "app-calendar.service")
	if err != nil {
		h.Fatal(err)
	}
	return strings.Count(text, "Finished ")
}

type statusOfCalendar struct {
	WakesAt  time.Time
	LastWake struct{ Client string }
}

func calendarStatus(h *harness.Host) statusOfCalendar {
	h.Helper()
	var r struct{ Services []statusOfCalendar }
	out, err := h.Session.Run(h.Context(), "zerolet", "status", "--json")
	if err != nil {
		h.Logf("status: %v: %s", err, out.Stderr)
	}
	if err := json.Unmarshal([]byte(out.Stdout), &r); err != nil || len(r.Services) != 1 {
		h.Fatalf("%v: %s", err, out.Stdout)
	}
	return r.Services[0]
}
