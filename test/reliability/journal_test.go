package reliability

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
)

// record is an entry of the journal, by field.
type record map[string]any

// records are the entries that have been written so far.
func records(h *harness.Host, match ...string) []record {
	h.Helper()
	h.SyncJournal()
	out, err := h.Session.Run(h.Context(), append([]string{"journalctl", "--no-pager", "--output=json"}, match...)...)
	if err != nil && (out.ExitCode != 1 || out.Stderr != "") { // --grep= has found nothing (journalctl.c)
		h.Fatal(err)
	}
	var all []record
	for line := range strings.Lines(out.Stdout) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			h.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

func (r record) text(field string) string { s, _ := r[field].(string); return s }

func (r record) number(h *harness.Host, field string) int64 {
	h.Helper()
	n, err := strconv.ParseInt(r.text(field), 10, 64)
	if err != nil {
		h.Errorf("%s=%q: %v", field, r.text(field), err)
	}
	return n
}

// Each wake, failure and sleep is a record with fields, and a crowd that is
// turned away is one record, not one for each.
func TestJournal(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		ours := "ZEROLET_CONTAINER=app.service"
		user := "_UID=1000"
		if !h.UserManager {
			user = "_SYSTEMD_UNIT=app-proxy.service"
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		for range 2 {
			h.MustGet()
			h.Asleep()
		}
		wakes := records(h, "MESSAGE_ID="+wire.WakeMessage, ours, user)
		if len(wakes) != 2 {
			t.Fatalf("%d records of 2 wakes", len(wakes))
		}
		for _, r := range wakes {
			if took := r.number(h, "ZEROLET_READY_USEC"); took <= 0 || took > 60e6 {
				t.Errorf("ready after %d us", took)
			}
			if r.text("ZEROLET_EVENT") != "wake" || !strings.HasPrefix(r.text("ZEROLET_PEER"), "127.0.0.1:") {
				t.Errorf("a wake: %v", r)
			}
		}
		sleeps := records(h, "MESSAGE_ID="+wire.SleepMessage, ours, user)
		if len(sleeps) != 2 {
			t.Fatalf("%d records of 2 sleeps", len(sleeps))
		}
		for _, r := range sleeps {
			if r.number(h, "ZEROLET_CONNECTIONS") != 1 || r.number(h, "ZEROLET_BYTES_OUT") < 27 || r.number(h, "ZEROLET_BYTES_IN") == 0 {
				t.Errorf("a sleep: %v", r)
			}
		}

		// They all come before the proxy does, or a slow machine makes two crowds of them.
		g := newGate(h, "app.service", "ExecStartPre")
		h.App("app", "-http :81", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s", "StartTimeout=2s", "[Service]", "TimeoutStartSec=10min")
		var crowd sync.WaitGroup
		for range 20 {
			c := h.Connect()
			crowd.Go(func() {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read: %v, want a reset", err)
				}
			})
		}
		g.open()
		crowd.Wait()
		h.Asleep()
		fails := records(h, "MESSAGE_ID="+wire.FailMessage, ours, user)
		if len(fails) != 1 {
			t.Errorf("%d records of a crowd turned away, want 1", len(fails))
		}
		for _, r := range fails {
			if r.text("PRIORITY") != "3" || !strings.Contains(r.text("MESSAGE"), "turned away: app.service did not accept on 127.0.0.1:") {
				t.Errorf("a failure: %v", r)
			}
		}
	})
}
