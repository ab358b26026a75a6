package systemd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What is not plain text comes as a list of bytes (journalctl(1), "json").
func TestText(t *testing.T) {
	for raw, want := range map[string]string{
		`"plain"`: "plain", `[27,91,51,49,109,114,101,100,27,91,109]`: "\x1b[31mred\x1b[m", `[255,65]`: "\uFFFDA",
		`null`: "", `["a","b"]`: "", `[[65],[66]]`: "", `[]`: "",
	} {
		var e Entry
		if err := json.Unmarshal([]byte(`{"MESSAGE":`+raw+`}`), &e); err != nil {
			t.Fatal(err)
		}
		if got := e.Text("MESSAGE"); got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
}

// What the journal got after a question was asked is no part of the answer: a
// container that ended since then would have run for longer than there was time.
func TestUntil(t *testing.T) {
	asked := time.UnixMicro(1_000_000)
	var all strings.Builder
	for _, at := range []int64{999_999, 1_000_000, 1_000_001} {
		fmt.Fprintf(&all, `{"__REALTIME_TIMESTAMP":"%d"}`+"\n", at)
	}
	for _, c := range []struct {
		query Query
		want  int
	}{{Query{Until: asked}, 2}, {Query{}, 3}} {
		var got int
		_, err := decode(strings.NewReader(all.String()), c.query.until(func(Entry) bool { got++; return true }))
		if err != nil || got != c.want {
			t.Errorf("until %v: %d entries and %v, want %d", c.query.Until, got, err, c.want)
		}
	}
}
