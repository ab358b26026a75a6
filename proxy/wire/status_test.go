package wire

import (
	"strings"
	"testing"
	"time"
)

func TestStatus(t *testing.T) {
	for _, want := range []Status{{}, {Open: 3}, {Reached: true, Ends: time.Unix(1, 0).UTC()}, {Free: true}} {
		if line := want.Line("any [text"); ParseStatus(line) != want || !strings.HasPrefix(line, "any [text [open=") {
			t.Errorf("%q is read as %+v", line, ParseStatus(line))
		}
	}
	for _, line := range []string{"", "1 connection open", "[", "]", "[open=1", "open=1]", "[open=x reached=maybe ends=soon]"} {
		if got := ParseStatus(line); got != (Status{}) {
			t.Errorf("%q: %+v", line, got)
		}
	}
}
