package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// printer shows diagnostics to a person: each with its source line and a caret
// below the column.
type printer struct {
	w     io.Writer
	color bool
}

func (p printer) print(d quadlet.Diagnostic) {
	style := map[quadlet.Severity]string{quadlet.Error: "1;31", quadlet.Warning: "1;35", quadlet.Note: "1;36"}[d.Severity] // as compilers have them
	p.paint("1", d.Pos.String())
	p.text(": ")
	p.paint(style, d.Severity.String())
	p.text(": %s\n", d.Message)
	if line, caret, ok := excerpt(d.Pos); ok {
		number := fmt.Sprintf("%5d", d.Pos.Line)
		p.text("%s | %s\n%s | %s", number, line, strings.Repeat(" ", len(number)), caret)
		p.paint("1;32", "^")
		p.text("\n")
	}
	p.hint(d.Hint)
}

func (p printer) failure(f failure) {
	p.text("zerolet: ")
	p.paint("1;31", "error")
	p.text(": %s\n", f.message)
	p.hint(f.hint)
}

func (p printer) hint(text string) {
	if text != "" {
		p.paint("36", "hint")
		p.text(": %s\n", text)
	}
}

func (p printer) text(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func (p printer) paint(style, text string) {
	if p.color {
		control(p.w, "\x1b["+style+"m")
		defer control(p.w, "\x1b[0m")
	}
	p.text("%s", text)
}

// excerpt is the line at a position as it can be shown, and what puts a caret
// below the column: tabs stay, everything else is as wide as a space. Of a long
// line only what is near the column is shown.
func excerpt(pos quadlet.Pos) (line, caret string, ok bool) {
	const before, after = 60, 40
	text, ok := sourceLine(pos)
	if !ok || pos.Col < 1 || pos.Col > len(text)+1 {
		return "", "", false
	}
	head, tail := text[:pos.Col-1], text[pos.Col-1:]
	if len(head) > before {
		head = "…" + cutFront(head, before)
	}
	if len(tail) > after {
		tail = cutBack(tail, after) + "…"
	}
	head, tail = quadlet.PrintableLines(head), quadlet.PrintableLines(tail)
	caret = strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, head)
	return strings.TrimRight(head+tail, " \t"), caret, true
}

// cutFront and cutBack keep at most n bytes and split no character.
func cutFront(s string, n int) string {
	s = s[len(s)-n:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return s
}

func cutBack(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// sourceLine is one line of a file, which may not be what it was when it was
// read as a Quadlet file.
func sourceLine(pos quadlet.Pos) (string, bool) {
	if pos.Line < 1 {
		return "", false
	}
	text, err := quadlet.ReadNamed(pos.File, pos.File)
	if err != nil {
		return "", false
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if n++; n == pos.Line {
			return strings.TrimRight(line, "\r\n"), true
		}
	}
	return "", false
}

// report is what check --json prints; docs/diagnostics.md describes it.
type report struct {
	Version     int                `json:"version"`
	Diagnostics []reportDiagnostic `json:"diagnostics"`
	Endpoints   []reportEndpoint   `json:"endpoints"`
}

type reportDiagnostic struct {
	File     string `json:"file"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
	Excerpt  string `json:"excerpt,omitempty"`
}

type reportEndpoint struct {
	Service     string   `json:"service"`
	File        string   `json:"file"`
	Listen      []string `json:"listen"`
	Names       []string `json:"names,omitempty"` // on the networks among them
	IdleTimeout string   `json:"idleTimeout,omitempty"`
	Sleep       string   `json:"sleep,omitempty"`
	StopAfter   string   `json:"stopAfter,omitempty"`
	NeededBy    []string `json:"neededBy,omitempty"`
	Members     []string `json:"members,omitempty"` // the services of a pod's containers
	Also        []string `json:"also,omitempty"`    // what comes of the other keys
}

func newReport(plan *generator.Plan, ds quadlet.Diagnostics) report {
	r := report{Version: 1, Diagnostics: []reportDiagnostic{}, Endpoints: []reportEndpoint{}}
	for _, d := range ds {
		out := reportDiagnostic{
			File: d.Pos.File, Line: d.Pos.Line, Column: d.Pos.Col,
			Severity: d.Severity.String(), Message: d.Message, Hint: d.Hint,
		}
		if line, caret, ok := excerpt(d.Pos); ok {
			out.Excerpt = line + "\n" + caret + "^"
		}
		r.Diagnostics = append(r.Diagnostics, out)
	}
	for _, e := range plan.Endpoints {
		if !e.Refused() {
			r.Endpoints = append(r.Endpoints, newReportEndpoint(e))
		}
	}
	return r
}

func newReportEndpoint(e *generator.Endpoint) reportEndpoint {
	r := reportEndpoint{
		Service: e.Spec.Unit + ".service", File: e.Spec.File.Path, Listen: listens(e), Names: names(e),
		NeededBy: e.NeededBy(), Members: e.MemberServices(), Also: also(e.Spec),
	}
	switch {
	case e.Spec.Dependency():
		return r
	case e.Spec.Freezes:
		r.Sleep, r.StopAfter = scale.SleepFreeze, e.Spec.StopAfter.String()
	default:
		r.Sleep = scale.SleepStop
	}
	r.IdleTimeout = e.Spec.IdleTimeout.String()
	return r
}

func listens(e *generator.Endpoint) []string {
	on := []string{}
	for _, f := range e.Forwards {
		on = append(on, f.String())
	}
	return on
}
