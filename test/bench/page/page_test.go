package page

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Prose is folded, what is between backticks stays whole, and so does a row of a
// table, however long.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.md")
	if err := os.WriteFile(path, []byte("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	row := "|" + strings.Repeat(" 1 |", 40) + "\n"
	if err := Replace(path, "x", strings.Repeat("word ", 23)+"`make bench`, 1.\n\n"+row); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	want := "a\n<!-- x -->\n" + strings.TrimSpace(strings.Repeat("word ", 23)) + "\n`make bench`, 1.\n\n" + row + "<!-- end of x -->\nb\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if Replace(path, "y", "") == nil {
		t.Error("no place, and no error")
	}
}
