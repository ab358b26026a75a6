package scale

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/quadlet"
)

const calendarHint = `write it like "Mon..Fri 08:00", "*-*-01 04:30" or "hourly"; systemd-analyze calendar tries it`

// checkCalendar refuses what systemd does not take for OnCalendar=
// (systemd.time(7), "Calendar Events"; calendar_spec_from_string in
// src/shared/calendarspec.c): of a timer with such a line systemd starts
// nothing. What it takes stays as it is written. An error is a
// [*quadlet.ValueError].
func checkCalendar(text string) error {
	c := &calendar{text: withoutZone(text)}
	switch {
	case c.text == "":
		return c.unexpected()
	case isShorthand(c.text):
		return nil
	}
	if err := c.weekdays(); err != nil {
		return err
	}
	if over, err := c.date(); over || err != nil {
		return err
	}
	return c.time()
}

// calendar is an expression as far as it has been read.
type calendar struct {
	text string
	at   int
}

func (c *calendar) rest() string { return c.text[c.at:] }

// next is the character that follows, 0 at the end.
func (c *calendar) next() byte {
	if c.at == len(c.text) {
		return 0
	}
	return c.text[c.at]
}

func (c *calendar) blanks() {
	c.at = len(c.text) - len(strings.TrimLeft(c.rest(), " "))
}

func (c *calendar) bad(at int, format string, args ...any) error {
	return &quadlet.ValueError{Offset: at, Message: fmt.Sprintf(format, args...), Hint: calendarHint}
}

func (c *calendar) unexpected() error {
	if c.next() == 0 {
		return c.bad(c.at, "the calendar event is not complete")
	}
	if word := strings.TrimLeft(c.rest(), " "); c.next() == ' ' && c.at > 0 {
		return c.bad(c.at+1, "unexpected %q at the end of a calendar event, nor is it a time zone that this machine knows", word)
	}
	return c.bad(c.at, "unexpected %q in a calendar event", c.next())
}

// isShorthand reports whether the event is a word of its own.
func isShorthand(text string) bool {
	return slices.ContainsFunc([]string{
		"minutely", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly", "annually", "anually",
		"biannually", "bi-annually", "semiannually", "semi-annually",
	}, func(word string) bool { return strings.EqualFold(word, text) })
}

// withoutZone leaves out the time zone at the end. systemd knows the local
// zone's own abbreviations, and what is in its database.
func withoutZone(text string) string {
	i := strings.LastIndexByte(text, ' ')
	if i < 0 {
		return text
	}
	zone := text[i+1:]
	known := strings.EqualFold(zone, "UTC")
	for _, month := range []time.Month{time.January, time.July} {
		local, _ := time.Date(time.Now().Year(), month, 1, 0, 0, 0, 0, time.Local).Zone() //nolint:gosmopolitan // as systemd does
		known = known || strings.EqualFold(zone, local)
	}
	if !known && zone != "" && zone != "Local" {
		_, err := time.LoadLocation(zone)
		known = err == nil
	}
	if !known {
		return text
	}
	return text[:i]
}

// weekdays reads those in front, if there are any: "Mon", "Mon,Wed", "Mon..Fri".
func (c *calendar) weekdays() error {
	for first, from := true, -1; ; first = false {
		day, length := weekday(c.rest())
		if length == 0 {
			if first {
				return nil
			}
			return c.unexpected()
		}
		if from > day {
			return c.bad(c.at, "the weekdays end before they begin")
		}
		open := from >= 0
		c.at += length
		switch next := c.next(); {
		case next == 0:
			return nil
		case next == ' ':
			c.blanks()
			return nil
		case !open && strings.HasPrefix(c.rest(), ".."):
			from = day
			c.at += 2
		case !open && next == '-': // as systemd once had it
			from = day
			c.at++
		case next == ',':
			from = -1
			c.at++
		default:
			return c.unexpected()
		}
		if next := c.next(); next == 0 || next == ' ' {
			if from >= 0 {
				return c.unexpected()
			}
			c.blanks()
			return nil
		}
	}
}

// weekday is the one that the text begins with, and how long its name is.
func weekday(text string) (day, length int) {
	for i := range 7 {
		name := time.Weekday((i + 1) % 7).String() // a week begins on Monday
		for _, name := range []string{name, name[:3]} {
			if len(text) >= len(name) && strings.EqualFold(text[:len(name)], name) {
				return i, len(name)
			}
		}
	}
	return 0, 0
}

// What the parts of a date and of a time may be (MIN_YEAR, MAX_YEAR and
// calendar_spec_valid in systemd).
var (
	years       = bounds{1970, 2199}
	months      = bounds{1, 12}
	daysOfMonth = bounds{1, 31}
	hours       = bounds{0, 23}
	minutes     = bounds{0, 59}
	seconds     = bounds{0, 60*1_000_000 - 1} // in microseconds
)

type bounds struct{ from, to int64 }

// date reads it, if there is one: "2027-01-31", "01-31", "*-*~3" from the end of
// the month, "@86400", after which nothing may follow.
func (c *calendar) date() (over bool, err error) {
	begin := c.at
	if c.next() == '@' {
		return true, c.epoch()
	}
	if c.next() == 0 {
		return false, nil
	}
	first, err := c.component(false)
	if err != nil {
		return false, err
	}
	if c.next() == 0 || c.next() == ':' { // a time
		c.at = begin
		return false, nil
	}
	var tilde bool
	second, err := c.part(&tilde)
	if err != nil {
		return false, err
	}
	year, month, day := component{}, first, second
	if next := c.next(); next != 0 && next != ' ' {
		if tilde {
			return false, c.unexpected()
		}
		if day, err = c.part(&tilde); err != nil {
			return false, err
		}
		if next := c.next(); next != 0 && next != ' ' {
			return false, c.unexpected()
		}
		year, month = first, second
	}
	c.blanks()
	days := daysOfMonth
	if tilde {
		days.to = 28 // every month has so many
	}
	for _, p := range []struct {
		component
		bounds
		what    string
		fromEnd bool
	}{{year.century(), years, "year", false}, {month, months, "month", false}, {day, days, "day", tilde}} {
		if !p.fits(p.bounds, p.fromEnd) {
			return false, c.bad(begin, "there is no such %s", p.what)
		}
	}
	return false, nil
}

// part reads what follows in a date.
func (c *calendar) part(tilde *bool) (component, error) {
	if next := c.next(); next != '-' && next != '~' {
		return nil, c.unexpected()
	}
	*tilde = c.next() == '~'
	c.at++
	return c.component(false)
}

// epoch reads a time in seconds since 1970.
func (c *calendar) epoch() error {
	c.at++
	digits := len(c.rest()) - len(strings.TrimLeft(c.rest(), "0123456789"))
	n, err := strconv.ParseInt(c.rest()[:digits], 10, 64)
	c.at += digits
	if digits == 0 || c.next() != 0 {
		return c.unexpected()
	}
	if year := time.Unix(n, 0).UTC().Year(); err != nil || int64(year) > years.to {
		return c.bad(0, "there is no such year")
	}
	return nil
}

// time reads it, if there is one: "08:00", "*:0/15", "*:*:30".
func (c *calendar) time() error {
	if c.next() == 0 {
		return nil
	}
	for i, p := range []struct {
		what string
		bounds
	}{{"hour", hours}, {"minute", minutes}, {"second", seconds}} {
		if i > 0 {
			if c.next() != ':' {
				return c.unexpected()
			}
			c.at++
		}
		begin := c.at
		read, err := c.component(i == 2)
		if err != nil {
			return err
		}
		if !read.fits(p.bounds, false) {
			return c.bad(begin, "there is no such %s", p.what)
		}
		if i == 1 && c.next() == 0 {
			return nil
		}
	}
	if c.next() != 0 {
		return c.unexpected()
	}
	return nil
}

// component is a part of a date or time: some of "8", "8..17", "0/15". Of "*" it
// is empty.
type component []span

// span is one of these; without an end it goes on as far as it repeats, without
// that it is one number.
type span struct{ start, stop, repeat int64 }

const none = -1

// maxSpans is CALENDARSPEC_COMPONENTS_MAX of systemd.
const maxSpans = 240

// component reads one. Seconds may have a fraction.
func (c *calendar) component(ofSeconds bool) (component, error) {
	if c.next() == '*' {
		c.at++
		return nil, nil
	}
	var all component
	for {
		s, err := c.span(ofSeconds)
		if err != nil {
			return nil, err
		}
		if all = append(all, s); len(all) > maxSpans {
			return nil, c.bad(c.at, "more than %d parts", maxSpans)
		}
		if c.next() != ',' {
			return all, nil
		}
		c.at++
	}
}

func (c *calendar) span(ofSeconds bool) (s span, err error) {
	one := int64(1)
	if ofSeconds {
		one = 1_000_000
	}
	s.stop = none
	if s.start, err = c.number(ofSeconds); err != nil {
		return s, err
	}
	if strings.HasPrefix(c.rest(), "..") {
		c.at += 2
		s.repeat = one
		if s.stop, err = c.number(ofSeconds); err != nil {
			return s, err
		}
	}
	if c.next() == '/' {
		c.at++
		if s.repeat, err = c.number(ofSeconds); err != nil {
			return s, err
		}
		if s.repeat == 0 {
			return s, c.bad(c.at-1, "a repetition after 0")
		}
	}
	if next := c.next(); next != 0 && !strings.ContainsRune(" ,-~:", rune(next)) {
		return s, c.unexpected()
	}
	return s, nil
}

// number reads one, of seconds in microseconds.
func (c *calendar) number(ofSeconds bool) (int64, error) {
	digits := func() string {
		text := c.rest()
		n := len(text) - len(strings.TrimLeft(text, "0123456789"))
		c.at += n
		return text[:n]
	}
	begin := c.at
	whole := digits()
	n, err := strconv.ParseInt(whole, 10, 32)
	if whole == "" {
		return 0, c.unexpected()
	}
	if err != nil {
		return 0, c.bad(begin, "number is too large")
	}
	if !ofSeconds {
		return n, nil
	}
	n *= 1_000_000
	if c.next() == '.' && !strings.HasPrefix(c.rest(), "..") {
		c.at++
		fraction := digits()
		if fraction == "" {
			return 0, c.unexpected()
		}
		micro, _ := strconv.ParseInt((fraction + "000000")[:6], 10, 64) // six digits
		if len(fraction) > 6 && fraction[6] >= '5' {
			micro++
		}
		n += micro
	}
	if n > math.MaxInt32 { // systemd keeps it in an int
		return 0, c.bad(begin, "number is too large")
	}
	return n, nil
}

// century turns years of two digits into those that are meant.
func (all component) century() component {
	full := func(year int64) int64 {
		switch {
		case year < 0 || year > 99:
			return year
		case year < 70:
			return year + 2000
		}
		return year + 1900
	}
	for i, s := range all {
		all[i].start, all[i].stop = full(s.start), full(s.stop)
	}
	return all
}

// fits reports whether all numbers are within the bounds and each repetition
// comes at least once (chain_valid in systemd). From the end of a month is
// counted downwards.
func (all component) fits(b bounds, fromEnd bool) bool {
	for _, s := range all {
		if s.stop > s.start && s.repeat > 0 {
			s.stop -= (s.stop - s.start) % s.repeat
		}
		if s.stop == s.start {
			s.stop, s.repeat = none, 0
		}
		last := s.start + s.repeat
		switch {
		case s.start < b.from, s.start > b.to, s.repeat > b.to-b.from:
			return false
		case s.stop != none && (s.stop < b.from || s.stop > b.to || last > s.stop):
			return false
		case s.stop == none && !fromEnd && last > b.to:
			return false
		case s.stop == none && fromEnd && s.start-s.repeat < b.from:
			return false
		}
	}
	return true
}
