package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Status is how a proxy stands. STATUS= is the only thing that a service can tell
// systemd in its own words (sd_notify(3)), and systemctl status prints it: there
// the fields follow, in brackets, what is said to a person.
type Status struct {
	Open    int64     // connections and sessions of UDP, held ones included
	Reached bool      // the app has taken one since it started
	Free    bool      // it gives way: nobody is connected, nobody is let in, and the container may stop
	Ends    time.Time // when the proxy ends, or freezes the container, if nobody comes; zero while somebody is there, or if it never does
	Frozen  time.Time // since when the container is frozen; zero: it is not
	Before  int64     // its memory when it was frozen, in bytes; 0: not known
	After   int64     // and when memory had been reclaimed; 0: it has not been
}

// Line is the text for a person with the fields.
func (s Status) Line(text string) string {
	text += fmt.Sprintf(" [open=%d reached=%s", s.Open, yesNo(s.Reached))
	if s.Free {
		text += " free=yes"
	}
	if !s.Frozen.IsZero() {
		text += " frozen=" + s.Frozen.UTC().Format(time.RFC3339)
	}
	if s.Before > 0 {
		text += fmt.Sprintf(" before=%d", s.Before)
	}
	if s.After > 0 {
		text += fmt.Sprintf(" after=%d", s.After)
	}
	if !s.Ends.IsZero() {
		text += " ends=" + s.Ends.UTC().Format(time.RFC3339)
	}
	return text + "]"
}

// ParseStatus reads the fields of a line. What is not there is zero, as it is
// while the proxy has told nothing yet.
func ParseStatus(line string) Status {
	var s Status
	begin := strings.LastIndexByte(line, '[')
	fields, ok := strings.CutSuffix(line[begin+1:], "]")
	if begin < 0 || !ok {
		return s
	}
	for _, field := range strings.Fields(fields) {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "open":
			s.Open, _ = strconv.ParseInt(value, 10, 64)
		case "reached":
			s.Reached = value == yesNo(true)
		case "free":
			s.Free = value == yesNo(true)
		case "frozen":
			s.Frozen, _ = time.Parse(time.RFC3339, value)
		case "before":
			s.Before, _ = strconv.ParseInt(value, 10, 64)
		case "after":
			s.After, _ = strconv.ParseInt(value, 10, 64)
		case "ends":
			s.Ends, _ = time.Parse(time.RFC3339, value)
		}
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
