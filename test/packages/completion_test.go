package packages

import (
	"os"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// In the shells themselves, where a package puts its completions: what a Tab
// makes of a line. The files in testdata have it write all that fits.
func TestCompletion(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	m.Root().Must(t, "sh", "-c", "dpkg -i /pkg/zerolet_0.1.0-*.deb")
	for name, at := range map[string]string{"bashrc": "/srv/bashrc", "zshrc": "/srv/.zshrc"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Root().Put(t.Context(), at, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		h.PutFile(h.Name+"-web.container", "[Container]\nImage=none\n"+h.Publish()+"\n[ScaleToZero]\n")
		h.PutFile(h.Name+"-db.container", "[Container]\nImage=none\n[ScaleToZero]\n")
		h.PutFile("other.container", "[Container]\nImage=none\n")
		h.PutFile(h.Home+"/drawing.svg", "")
		db, web := h.Name+"-db", h.Name+"-web"
		for typed, want := range map[string]string{
			"":                              "apply check doctor explain export history metrics render sleep status suggest update wake",
			"wa":                            "wake",
			"status --":                     "--json --system --user --watch",
			"history --s":                   "--since --svg --system",
			"wake ":                         db + " " + web,
			"sleep --force " + db[:6]:       db,
			"explain " + db + " " + web[:6]: web,
			"wake --system root-w":          "root-web", // the user may read them
			"apply ":                        "",
			"history --since ":              "",
			"history --svg draw":            "drawing.svg",
			"frobnicate ":                   "",
		} {
			for shell, complete := range shells() {
				if got := complete(t, h.Session, "zerolet "+typed); strings.Join(got, " ") != want {
					t.Errorf("%s: %q becomes %q, want %q", shell, typed, got, want)
				}
			}
		}
	})
}

// shells are what finds the words that fit at the end of a line.
func shells() map[string]func(*testing.T, *lab.Session, string) []string {
	return map[string]func(*testing.T, *lab.Session, string) []string{
		"bash": func(t *testing.T, s *lab.Session, line string) []string {
			return tab(t, s, "bash --rcfile /srv/bashrc -i", line)
		},
		"zsh": func(t *testing.T, s *lab.Session, line string) []string {
			return tab(t, s, "env ZDOTDIR=/srv zsh -i", line)
		},
		"fish": func(t *testing.T, s *lab.Session, line string) []string {
			return strings.Fields(s.Must(t, "fish", "--command", "complete --do-complete $argv[1]", line))
		},
	}
}

// tab types a line and a Tab at a terminal, and returns what there is from the
// word on at which the Tab was pressed.
func tab(t *testing.T, s *lab.Session, shell, line string) []string {
	const script = `export TERM=xterm LINE=$(mktemp); printf '%s\t\024' "$2" | script --quiet --command "$1" /dev/null >&2; cat "$LINE"`
	out := s.Must(t, "sh", "-c", script, "sh", shell, line)
	whole := line[:strings.LastIndex(line, " ")+1]
	rest, ok := strings.CutPrefix(out, whole)
	if !ok {
		t.Errorf("%s: %q has become %q", shell, line, out)
	}
	if words := strings.Fields(rest); len(words) > 0 && words[0] != line[len(whole):] {
		return words
	}
	return nil
}
