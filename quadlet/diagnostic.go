package quadlet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pos is a place in a file. Line and Col count from 1, Col in bytes; zero
// means unknown (a problem with the file as a whole has neither).
type Pos struct {
	File string
	Line int
	Col  int
}

// String is "file:line:col", "file:line" or "file", as far as it is known.
func (p Pos) String() string {
	file := Printable(p.File)
	switch {
	case p.Line == 0:
		return file
	case p.Col == 0:
		return fmt.Sprintf("%s:%d", file, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", file, p.Line, p.Col)
	}
}

// Severity says whether zerolet can go on.
type Severity int

const (
	// Warning is something the user should know; units are still written.
	Warning Severity = iota
	// Error means that the endpoint cannot be made.
	Error
	// Note is something that happens in another way than before, without a
	// loss. Only an export has them.
	Note
)

func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Note:
		return "note"
	}
	return "warning"
}

// Diagnostic is one problem in what a user wrote. Message and Hint are lower
// case and have no full stop; Hint may be empty.
type Diagnostic struct {
	Pos      Pos
	Severity Severity
	Message  string
	Hint     string
}

// String is "file:line:col: error: message", and a second line "hint: ..."
// where there is one.
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", d.Pos, d.Severity, d.Message)
	if d.Hint != "" {
		fmt.Fprintf(&b, "\nhint: %s", d.Hint)
	}
	return b.String()
}

// Diagnostics are the problems found so far, in the order they were found.
type Diagnostics []Diagnostic

// Errorf adds an error. The hint may be empty.
func (ds *Diagnostics) Errorf(pos Pos, hint, format string, args ...any) {
	ds.add(Diagnostic{pos, Error, fmt.Sprintf(format, args...), hint})
}

// Warnf adds a warning. The hint may be empty.
func (ds *Diagnostics) Warnf(pos Pos, hint, format string, args ...any) {
	ds.add(Diagnostic{pos, Warning, fmt.Sprintf(format, args...), hint})
}

// Notef adds a note. The hint may be empty.
func (ds *Diagnostics) Notef(pos Pos, hint, format string, args ...any) {
	ds.add(Diagnostic{pos, Note, fmt.Sprintf(format, args...), hint})
}

// add keeps what a file says from reaching into a terminal or a journal: a
// message is one line without control characters.
func (ds *Diagnostics) add(d Diagnostic) {
	d.Message, d.Hint = Printable(d.Message), Printable(d.Hint)
	*ds = append(*ds, d)
}

// Printable is text with every control character, line break and invalid byte
// replaced, and what has a terminal show text in another order than it has
// (Unicode Standard Annex 9, "Directional Formatting Characters").
func Printable(text string) string { return strings.Map(printable, text) }

// PrintableLines is Printable of a text that keeps its line breaks and tabs.
func PrintableLines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return printable(r)
	}, text)
}

func printable(r rune) rune {
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
		return utf8.RuneError
	}
	return r
}

// ValueError is what is wrong with a value, and at which of its bytes.
// Message and Hint are as in [Diagnostic].
type ValueError struct {
	Offset  int
	Message string
	Hint    string
}

func (e *ValueError) Error() string { return e.Message }

// Value adds an error in the value of an entry, at the right column if it is
// a [*ValueError].
func (ds *Diagnostics) Value(e Entry, err error) {
	var ve *ValueError
	if errors.As(err, &ve) {
		ds.Errorf(e.At(ve.Offset), ve.Hint, "%s: %v", e.Key, err)
		return
	}
	ds.Errorf(e.ValuePos, "", "%s: %v", e.Key, err)
}

// HasErrors reports whether any of them is an error.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })
}

// Strict makes every warning an error.
func (ds Diagnostics) Strict() {
	for i := range ds {
		if ds[i].Severity == Warning {
			ds[i].Severity = Error
		}
	}
}

// Sort orders them by file, line and column, and keeps the order of equals.
func (ds Diagnostics) Sort() {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(
			cmp.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Col, b.Pos.Col),
		)
	})
}

// Fold tells what is wrong with a file in the same words once, at the first
// place, with the count and the other lines. They have to be sorted.
func (ds Diagnostics) Fold() Diagnostics {
	type same struct {
		file, message, hint string
		severity            Severity
	}
	lines := make(map[same][]int)
	key := func(d Diagnostic) same { return same{d.Pos.File, d.Message, d.Hint, d.Severity} }
	for _, d := range ds {
		lines[key(d)] = append(lines[key(d)], d.Pos.Line)
	}
	var out Diagnostics
	for _, d := range ds {
		k := key(d)
		at := lines[k]
		if len(at) == 0 {
			continue // told
		}
		delete(lines, k)
		if len(at) > 1 {
			d.Message += fmt.Sprintf(" (%d times%s)", len(at), otherLines(at))
		}
		out = append(out, d)
	}
	return out
}

// otherLines are the lines after the first, each once, and not too many.
func otherLines(lines []int) string {
	const most = 10
	others := slices.Compact(slices.Clone(lines))[1:]
	if len(others) == 0 {
		return ""
	}
	text, separator := "", ", also at line "
	if len(others) > 1 {
		separator = ", also at lines "
	}
	for i, line := range others {
		if i == most {
			return text + " and more"
		}
		text, separator = text+separator+fmt.Sprint(line), " "
	}
	return text
}
