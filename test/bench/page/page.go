// Package page writes figures into their place in a document.
package page

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// columns is how wide a line of a document may be.
const columns = 120

// Replace puts the text between the document's marks of this name.
func Replace(document, name, text string) error {
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	old, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(old), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no place for %s", document, name)
	}
	return os.WriteFile(document, []byte(before+begin+fold(text)+end+after), 0o644)
}

// word is what stays on one line: what is between backticks, too.
var word = regexp.MustCompile("(?:`[^`]*`|[^\\s`])+")

// fold breaks the lines of prose. A row of a table is one line.
func fold(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") || strings.TrimSpace(line) == "" {
			b.WriteString(line)
			continue
		}
		width := 0
		for i, word := range word.FindAllString(line, -1) {
			n := utf8.RuneCountInString(word)
			switch {
			case i == 0:
			case width+1+n > columns:
				b.WriteByte('\n')
				width = 0
			default:
				b.WriteByte(' ')
				width++
			}
			b.WriteString(word)
			width += n
		}
		b.WriteByte('\n')
	}
	return b.String()
}
