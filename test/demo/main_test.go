package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "draw docs/demo.svg anew")

const drawn = "../../docs/demo.svg"

// The demo is a test of the story it tells, and the README's picture shows what
// it says, but for numbers.
func TestDemo(t *testing.T) {
	if os.Getuid() != 0 || testing.Short() {
		t.Skip("it boots a machine, as root")
	}
	var out bytes.Buffer
	entries, err := run(t.Context(), "../..", &out, os.Stderr)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	picture := draw(title, entries)
	if *update {
		if err := os.WriteFile(drawn, []byte(picture), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := shape(t, picture), shape(t, read(t)); got != want {
		t.Errorf("%s shows another terminal than the demo's (go test ./demo -update):\n%s\nwant\n%s", drawn, got, want)
	}
}

// Everybody sees the picture: those without animation, and those with a narrow
// page, where it is scaled down.
func TestDrawing(t *testing.T) {
	have := read(t)
	lines := strings.Split(text(t, have), "\n")
	if len(lines) > 40 {
		t.Errorf("%s has %d lines: nobody reads that many", drawn, len(lines))
	}
	for _, line := range lines {
		if len([]rune(line)) > 100 {
			t.Errorf("%s has a line of %d columns: %s", drawn, len([]rune(line)), line)
		}
	}
	picture := draw("a < b", []entry{
		{remark, "# why", time.Second},
		{command, "$ a && b", time.Second},
		{remark, "# then", time.Second},
		{output, "<one>\n  two", time.Hour},
	})
	if got, want := text(t, picture), "# why\n$ a && b\n# then\n<one>\n  two"; got != want {
		t.Errorf("the picture shows %q, want %q", got, want)
	}
	for _, delay := range []string{"0.00s", "1.00s", "3.00s"} { // an hour is cut to two seconds
		if !strings.Contains(picture, "animation-delay: "+delay) {
			t.Errorf("nothing comes after %s:\n%s", delay, picture)
		}
	}
}

// text is what a picture shows, line by line. It must be XML.
func text(t *testing.T, picture string) string {
	t.Helper()
	var lines []string
	inside := false
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return strings.Join(lines, "\n")
		} else if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "text" {
				inside = true
				lines = append(lines, "")
			}
		case xml.EndElement:
			inside = inside && token.Name.Local != "text"
		case xml.CharData:
			if inside {
				lines[len(lines)-1] += string(token)
			}
		}
	}
}

// shape is what a picture shows without what differs each time.
func shape(t *testing.T, picture string) string {
	t.Helper()
	numbers := regexp.MustCompile(`[\d.]+`).ReplaceAllString(text(t, picture), "0")
	ages := regexp.MustCompile(`Up .*`).ReplaceAllString(numbers, "Up")
	return regexp.MustCompile(`[ -]+`).ReplaceAllString(ages, " ")
}

func read(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(drawn)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
