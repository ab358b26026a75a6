// Package page is what a browser shows while a service wakes: one file that asks
// nobody for anything but the service itself. It is not html/template that fills it
// in: that would be 1.6 MB of every proxy's memory, whether it shows a page or not.
package page

import (
	_ "embed"
	"errors"
	"fmt"
	"html"
	"io"
	"iter"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

//go:embed page.html
var own string

// again is after how many seconds a page without a script asks again.
const again = 2

// Wake is what there is to say of a wake that goes on.
type Wake struct {
	Name    string        // of the service
	Waits   string        // for what
	Reason  string        // why it fails; "" if it does not
	Target  string        // what the browser has asked for
	Elapsed time.Duration // since it began
	Usual   time.Duration // that such a wake takes; 0: nobody knows
}

// again is what a meta refresh says. It names where to go, or a browser that is at a
// fragment (#) would stay there; an address with two slashes, of either kind, leads
// to another host (URL Standard, 4.4). A long one would take as much of everybody who
// is shown a page.
func (w Wake) again() string {
	const long = 2 << 10
	if len(w.Target) > long || len(w.Target) > 1 && strings.ContainsRune(`/\`, rune(w.Target[1])) || !strings.HasPrefix(w.Target, "/") {
		return strconv.Itoa(again)
	}
	return fmt.Sprintf("%d; url=%s", again, w.Target)
}

// State is waking or failing.
func (w Wake) State() string {
	if w.Reason != "" {
		return "failing"
	}
	return "waking"
}

// RetryAfter is when the app may be there, in whole seconds.
func (w Wake) RetryAfter() int {
	return int(math.Ceil(max(1, min(60, (w.Usual-w.Elapsed).Seconds()))))
}

// usually tells how long it takes.
func (w Wake) usually() string {
	switch s := w.Usual.Seconds(); {
	case s == 0:
		return "How long this takes is not known yet."
	case s < 1.5:
		return "This usually takes about a second."
	case s < 90:
		return fmt.Sprintf("This usually takes about %.0f seconds.", s)
	}
	return fmt.Sprintf("This usually takes about %.0f minutes.", w.Usual.Minutes())
}

// values are what stands for each name. As text, or within quotes in a tag, none of
// them ends what it stands in.
func (w Wake) values() map[string]string {
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	return map[string]string{
		"name": w.Name, "state": w.State(), "waits": w.Waits, "reason": w.Reason, "usually": w.usually(),
		"usual": seconds(w.Usual), "elapsed": seconds(w.Elapsed), "again": w.again(),
	}
}

// Page is the text of one, in which {{name}} and the like stand for what there is to
// say.
type Page struct {
	text string
	Own  bool // it is ours
}

// New is our own.
func New() *Page { return &Page{own, true} }

// Read takes one from a file.
func Read(path string) (*Page, error) {
	const most = 1 << 20
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && len(text) > most {
		err = errors.New("longer than 1 MB")
	}
	return &Page{text: string(text)}, err
}

// Text is the page of a wake, piece by piece: what the file has is the same memory for
// all who are shown it, however long they take.
func (p *Page) Text(w Wake) iter.Seq[string] {
	const longest = len("usually}}")
	values := w.values()
	return func(yield func(string) bool) {
		text, from := p.text, 0
		for {
			at := strings.Index(text[from:], "{{")
			if at < 0 {
				yield(text)
				return
			}
			at += from
			from = at + len("{{")
			name, _, whole := strings.Cut(text[from:min(from+longest, len(text))], "}}")
			value, known := values[name]
			if !whole || !known {
				from = at + 1
				continue
			}
			if !yield(text[:at]) || !yield(html.EscapeString(value)) { // which is not looked at again
				return
			}
			text, from = text[from+len(name+"}}"):], 0
		}
	}
}
