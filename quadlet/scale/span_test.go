package scale

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

func spanTests() []struct{ text, want string } {
	return []struct{ text, want string }{
		{"0", "0"},
		{"1", "1s"},
		{"30s", "30s"},
		{" 30 s ", "30s"},
		{"90", "1min 30s"},
		{"2min", "2min"},
		{"2min30s", "2min 30s"},
		{"2min 30", "2min 30s"},
		{"5 3", "8s"},
		{"5 +3", "8s"},
		{"+5", "5s"},
		{"1.5", "1.500000s"},
		{"1.5min", "1min 30s"},
		{".5s", "500ms"},
		{"1.0000019s", "1.000001s"},
		{"1us", "1us"},
		{"1usec 1\u00b5s 1\u03bcs", "3us"},
		{"1ms", "1ms"},
		{"1500us", "1.500ms"},
		{"1msec 1us", "1.001ms"},
		{"59.5s", "59.500000s"},
		{"1m", "1min"},
		{"1M", "1month"},
		{"1h 1hr 1hour 2hours", "5h"},
		{"1d", "1d"},
		{"7d", "1w"},
		{"1w 1day 2days", "1w 3d"},
		{"1weeks", "1w"},
		{"12months", "1y"},
		{"1y 1month 1w 1d 1h 1min 1s 1ms 1us", "1y 1month 1w 1d 1h 1min 1.001001s"},
		{"12.34s.56", "12.900000s"},
		{"12.34 .56", "12.900000s"},
		{"292y", "292y"},
		{"infinity", "infinity"},
		{" infinity\t", "infinity"},

		{"", "0: empty time span"},
		{" ", "0: empty time span"},
		{"-5", "0: time span is negative"},
		{"5 -3", "2: time span is negative"},
		{"-0", "0: time span is negative"},
		{"abc", "0: expected a number"},
		{"s", "0: expected a number"},
		{"+", "0: expected a number"},
		{"+.5", "0: expected a number"},
		{"3. 1", "2: expected a digit after the point"},
		{"3.sec", "2: expected a digit after the point"},
		{"3.", "2: expected a digit after the point"},
		{"12.34.56", "5: unknown unit of time"},
		{"30secs", "5: expected a number"},
		{"30x", "2: unknown unit of time"},
		{"5+3", "1: unknown unit of time"},
		{"10 fortnights", "3: unknown unit of time"},
		{"infinity 5", "0: expected a number"},
		{"300y", "0: time span is longer than 292 years"},
		{"200y 100y", "5: time span is longer than 292 years"},
		{"99999999999999999999", "0: time span is longer than 292 years"},
	}
}

// show is a span or its error in one line.
func show(s Span, err error) string {
	var ve *quadlet.ValueError
	if errors.As(err, &ve) {
		return fmt.Sprintf("%d: %s", ve.Offset, ve.Message)
	}
	return s.String()
}

func TestParseSpan(t *testing.T) {
	for _, tt := range spanTests() {
		if got := show(ParseSpan(tt.text)); got != tt.want {
			t.Errorf("%q is %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestSpanDuration(t *testing.T) {
	if s, err := ParseSpan("2min 30s"); err != nil || s.Duration() != 150*time.Second {
		t.Errorf("2min 30s is %v, %v", s.Duration(), err)
	}
	if Infinity.Duration() < 292*365*24*time.Hour {
		t.Errorf("infinity is %v", Infinity.Duration())
	}
}

// TestSystemdAgrees asks systemd about each span that we take or refuse.
func TestSystemdAgrees(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	for _, tt := range spanTests() {
		if strings.Contains(tt.want, "292") && tt.text != "292y" {
			continue // systemd takes up to 584 thousand years
		}
		// "--" so that "-5" is no option; the output is the same in every locale.
		out, err := exec.Command(analyze, "timespan", "--", tt.text).Output()
		s, ours := ParseSpan(tt.text)
		if (err == nil) != (ours == nil) {
			t.Errorf("%q: we say %v, systemd says %v", tt.text, ours, err)
			continue
		}
		if err != nil {
			continue
		}
		_, human, _ := strings.Cut(string(out), "Human: ")
		if human = strings.TrimSpace(human); human != s.String() {
			t.Errorf("%q is %q, in systemd %q", tt.text, s, human)
		}
	}
}

func FuzzSpan(f *testing.F) {
	for _, tt := range spanTests() {
		f.Add(tt.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSpan(text)
		var ve *quadlet.ValueError
		switch {
		case errors.As(err, &ve):
			if ve.Offset < 0 || ve.Offset > len(text) {
				t.Errorf("%q: offset %d", text, ve.Offset)
			}
			return
		case err != nil:
			t.Fatalf("%q: %T", text, err)
		case s < 0 || s != Infinity && s.Duration()%time.Microsecond != 0:
			t.Fatalf("%q is %d", text, s)
		}
		if again, err := ParseSpan(s.String()); again != s {
			t.Errorf("%q is %q, and that is %q, %v", text, s, again, err)
		}
	})
}
