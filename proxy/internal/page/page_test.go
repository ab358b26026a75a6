package page

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Whatever a value is, it is text; and the page asks for nothing from elsewhere.
func TestText(t *testing.T) {
	const evil = `</p><script src=//x>"'&{{waits}}`
	for _, w := range []Wake{
		{},
		{Name: evil, Waits: evil, Reason: evil, Elapsed: time.Second, Usual: time.Minute},
		{Name: "web", Waits: "its container to start", Elapsed: 1500 * time.Millisecond, Usual: 4200 * time.Millisecond},
		{Name: "web", Waits: "its container to start", Reason: "web.service has failed: exit-code, status 125."},
	} {
		text := textOf(New(), w)
		if strings.Count(text, "<script") != 1 || strings.Count(text, "{{") != 3*strings.Count(w.Name, "{{")+strings.Count(w.Waits+w.Reason, "{{") {
			t.Errorf("%s", text)
		}
		for _, elsewhere := range []string{"src=", "url(", "@import", "http://", "https://"} {
			if n := strings.Count(text, elsewhere); n != 3*strings.Count(w.Name, elsewhere)+strings.Count(w.Waits+w.Reason, elsewhere) {
				t.Errorf("%s in\n%s", elsewhere, text)
			}
		}
	}
}

// textOf is a page as it is sent.
func textOf(p *Page, w Wake) string { return strings.Join(slices.Collect(p.Text(w)), "") }

// A long page costs each who is shown it no more than a short one.
func TestTextIsShared(t *testing.T) {
	p := &Page{text: strings.Repeat("a", 1<<20) + strings.Repeat("{{name}}{{b", 1<<10)}
	const times, each = 100, 16 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		for range p.Text(Wake{Name: "web"}) {
		}
	}
	runtime.ReadMemStats(&after)
	if n := (after.TotalAlloc - before.TotalAlloc) / times; n > each {
		t.Errorf("%d bytes for each", n)
	}
}

func TestTimes(t *testing.T) {
	for w, want := range map[Wake]string{
		{}:                               "How long this takes is not known yet. 1",
		{Usual: time.Millisecond}:        "This usually takes about a second. 1",
		{Usual: 4400 * time.Millisecond}: "This usually takes about 4 seconds. 5",
		{Usual: 4 * time.Second, Elapsed: 10 * time.Hour}: "This usually takes about 4 seconds. 1",
		{Usual: 150 * time.Second}:                        "This usually takes about 2 minutes. 60",
	} {
		if got := fmt.Sprint(w.usually(), " ", w.RetryAfter()); got != want {
			t.Errorf("%v: %s, %d", w, got, w.RetryAfter())
		}
	}
}

func TestPast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "times")
	p, err := ReadPast(path)
	if err != nil || p.Usual() != 0 {
		t.Fatal(p, err)
	}
	for i := range 2 * remembered {
		if err := p.Add(time.Duration(i) * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if p, err = ReadPast(path); err != nil || len(p.took) != remembered || p.Usual() != 24*time.Second {
		t.Error(p, err)
	}
	if err := os.WriteFile(path, []byte("garbage\n-1s\n2s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err = ReadPast(path); err != nil || p.Usual() != 2*time.Second {
		t.Error(p, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
}

// No address leads elsewhere.
func TestAgain(t *testing.T) {
	for target, want := range map[string]string{"/a?b='\"": "2; url=/a?b='\"", "/": "2; url=/", "//x": "2", `/\x`: "2", "": "2", "x:y": "2", "/" + strings.Repeat("a", 4<<10): "2"} {
		if got := (Wake{Target: target}).again(); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

// A page of one's own that is none is told at once.
func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for text, good := range map[string]bool{"<p>{{name}} {{nobody}} {{{{{name}}}} {{name": true, strings.Repeat("a", 2<<20): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Read(path)
		if (err == nil) != good {
			t.Errorf("%.20q: %v", text, err)
		}
		if got, want := textOf(p, Wake{Name: "a<"}), "<p>a&lt; {{nobody}} {{{a&lt;}} {{name"; good && got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
