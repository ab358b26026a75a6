package system

import (
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// docs/tour.md is a session: each command is typed and must print what stands
// below it, but for numbers, and for what comes after the end of a block.
func TestTour(t *testing.T) {
	t.Parallel()
	m := harness.Boot(t, lab.Options{})
	h := &harness.Host{T: t, Session: m.User(), M: m, Port: 8080}
	if _, err := h.NginxImage(t.Context()); err != nil {
		t.Fatal(err)
	}
	doc := read(t, "../../docs/tour.md")
	h.PutFile("web.container", strings.TrimPrefix(between(t, doc, "web.container\n", "$ systemctl"), "\n"))
	h.Reload()
	h.Control("start", "web.service")

	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(doc, -1) {
		for _, step := range strings.Split(strings.TrimPrefix(block[1], "$ "), "\n$ ") {
			command, want, _ := strings.Cut(step, "\n")
			switch command { // who types is slow enough
			case "zerolet sleep web":
				h.Unused("web")
			case "zerolet history":
				h.WaitJournal("web-proxy.service", "web.service ready for ", 2)
			}
			out, err := h.Session.Run(t.Context(), "sh", "-c", "cd && "+command)
			got := out.Stdout + out.Stderr
			if err != nil || !strings.HasPrefix(shape(got), shape(want)) || want == "" && got != "" {
				t.Fatalf("%s: %v\ngot\n%s\nwant\n%s", command, err, got, want)
			}
		}
	}
}

// shape is text without what differs each time.
func shape(text string) string {
	text = regexp.MustCompile(`[·▁▂▃▄▅▆▇█]+`).ReplaceAllString(text, "~")
	text = regexp.MustCompile(`[\d.]+`).ReplaceAllString(text, "0")
	return strings.TrimSpace(regexp.MustCompile(`[ \n-]+`).ReplaceAllString(text, " "))
}
