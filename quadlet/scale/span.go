package scale

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

// Span is a time span as systemd has it, in whole microseconds and never
// negative. [Infinity] is longer than any other.
type Span time.Duration

// Infinity is the span "infinity".
const Infinity Span = math.MaxInt64

const (
	second = int64(time.Second / time.Microsecond)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
	week   = 7 * day
	// systemd.time(7): a year is 365.25 days, a month the twelfth of it.
	year  = 365*day + 6*hour
	month = year / 12

	// maxSpan is about 292 years, what a time.Duration can hold. systemd
	// goes on to 584 thousand.
	maxSpan = math.MaxInt64 / int64(time.Microsecond)
)

// Duration is the span for Go's timers. [Infinity] is the longest duration.
func (s Span) Duration() time.Duration { return time.Duration(s) }

// String is the span as systemd prints it, which [ParseSpan] and systemd read
// back: "2min 30s", "1.500000s", "0", "infinity" (format_timespan in systemd's
// src/basic/time-util.c, accuracy 1 µs).
func (s Span) String() string {
	if s == Infinity {
		return "infinity"
	}
	us := int64(s) / int64(time.Microsecond)
	if us <= 0 {
		return "0"
	}
	var out []byte
	for _, u := range [...]struct {
		name   string
		us     int64
		digits int // after the point, for less than a minute
	}{
		{"y", year, 0},
		{"month", month, 0},
		{"w", week, 0},
		{"d", day, 0},
		{"h", hour, 0},
		{"min", minute, 0},
		{"s", second, 6},
		{"ms", 1000, 3},
		{"us", 1, 0},
	} {
		if us < u.us {
			continue
		}
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = strconv.AppendInt(out, us/u.us, 10)
		us %= u.us
		if us > 0 && u.digits > 0 {
			fraction := strconv.FormatInt(us, 10)
			out = append(out, '.')
			out = append(out, strings.Repeat("0", u.digits-len(fraction))...)
			out = append(out, fraction...)
			us = 0
		}
		out = append(out, u.name...)
		if us == 0 {
			break
		}
	}
	return string(out)
}

const spanHint = `write it like "30s", "2min 30s" or "infinity"`

// ParseSpan reads a time span as systemd does (systemd.time(7), parse_time in
// src/basic/time-util.c): numbers with a unit, seconds without one, that add
// up, or "infinity". An error is a [*quadlet.ValueError].
func ParseSpan(text string) (Span, error) {
	const space = " \t\n\r" // WHITESPACE in systemd
	if strings.Trim(text, space) == "infinity" {
		return Infinity, nil
	}
	var sum int64
	rest := strings.TrimLeft(text, space)
	if rest == "" {
		return 0, spanError(0, "empty time span", spanHint)
	}
	for rest != "" {
		at := len(text) - len(rest)
		us, after, err := spanPart(rest)
		if err != nil {
			err.Offset += at
			return 0, err
		}
		if us > maxSpan-sum {
			return 0, spanError(at, "time span is longer than 292 years", `write "infinity"`)
		}
		sum += us
		rest = strings.TrimLeft(after, space)
	}
	return Span(sum * int64(time.Microsecond)), nil
}

func spanError(offset int, message, hint string) *quadlet.ValueError {
	return &quadlet.ValueError{Offset: offset, Message: message, Hint: hint}
}

// spanPart reads one number and its unit, and gives what comes after. More
// than maxSpan may come out as any number greater than that.
func spanPart(text string) (us int64, after string, err *quadlet.ValueError) {
	if text[0] == '-' {
		return 0, "", spanError(0, "time span is negative", spanHint)
	}
	digits, plus := strings.CutPrefix(text, "+")
	after = strings.TrimLeft(digits, "0123456789")
	whole, fraction := digits[:len(digits)-len(after)], ""
	switch dot := strings.HasPrefix(after, "."); {
	case whole == "" && (plus || !dot): // ".5" is a number, "+.5" is none
		return 0, "", spanError(0, "expected a number", spanHint)
	case dot:
		tail := strings.TrimLeft(after[1:], "0123456789")
		fraction, after = after[1:len(after)-len(tail)], tail
		if fraction == "" {
			return 0, "", spanError(len(text)-len(after), "expected a digit after the point", spanHint)
		}
	}
	unit, next, ok := spanUnit(after)
	if !ok {
		return 0, "", spanError(len(text)-len(next), "unknown unit of time", "units are us, ms, s, min, h, d, w, month, y")
	}
	us = times(whole, unit)
	// systemd's integer division: the digits that are less than 1 µs are lost.
	for m := unit / 10; fraction != "" && m > 0 && us <= maxSpan; m /= 10 {
		us += int64(fraction[0]-'0') * m
		fraction = fraction[1:]
	}
	return us, next, nil
}

// times is a decimal number times a unit, or more than maxSpan.
func times(digits string, unit int64) int64 {
	if digits == "" {
		return 0 // ".5s"
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > maxSpan/unit {
		return maxSpan + 1
	}
	return n * unit
}

// spanUnit reads a unit, with space before it. Without one it is seconds, but
// then the end must follow, or a space and a number.
func spanUnit(text string) (us int64, after string, ok bool) {
	word := strings.TrimLeft(text, " \t\n\r")
	for _, u := range [...]struct {
		name string
		us   int64
	}{
		// systemd takes the first that fits: longer names come first.
		{"seconds", second},
		{"second", second},
		{"sec", second},
		{"s", second},
		{"minutes", minute},
		{"minute", minute},
		{"min", minute},
		{"months", month},
		{"month", month},
		{"M", month},
		{"msec", 1000},
		{"ms", 1000},
		{"m", minute},
		{"hours", hour},
		{"hour", hour},
		{"hr", hour},
		{"h", hour},
		{"days", day},
		{"day", day},
		{"d", day},
		{"weeks", week},
		{"week", week},
		{"w", week},
		{"years", year},
		{"year", year},
		{"y", year},
		{"usec", 1},
		{"us", 1},
		{"\u03bcs", 1}, // Greek letter mu
		{"\u00b5s", 1}, // micro sign
	} {
		if after, ok := strings.CutPrefix(word, u.name); ok {
			return u.us, after, true
		}
	}
	return second, word, word == "" || len(word) < len(text) && strings.IndexByte("0123456789+-.", word[0]) >= 0
}
