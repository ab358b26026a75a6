package systemd

import (
	"encoding/json"
	"testing"
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
