package system

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Every command in README and docs does what it says: the file to copy, the
// lines after "$" and "#", and the commands inside the text.
func TestDocs(t *testing.T) {
	m := harness.Boot(t, lab.Options{})
	h := &harness.Host{T: t, Session: m.User(), M: m, Port: 8080}
	if _, err := h.NginxImage(t.Context()); err != nil {
		t.Fatal(err)
	}
	readme := read(t, "../../README.md")
	file := between(t, readme, "```ini\n", "```")
	h.PutFile("web.container", file)

	console := regexp.MustCompile("(?s)```console\n(.*?)```")
	for _, block := range console.FindAllStringSubmatch(readme, -1) {
		for _, line := range strings.Split(strings.TrimSpace(block[1]), "\n") {
			if target, ok := strings.CutPrefix(line, "# make "); ok {
				makeTarget(t, target)
				continue
			}
			h.Must(t, "sh", "-c", strings.TrimPrefix(line, "$ "))
			h.WaitState("web-proxy.socket", "active")
		}
	}
	if out := h.Must(t, "curl", "-sS", "http://localhost:8080/"); !strings.Contains(out, "nginx") {
		t.Errorf("the README's file is not served: %s", out)
	}
	outgrowing(t, h)
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(docs, "../../README.md") {
		inline(t, h, path)
	}
	manual(t, h)
	h.Must(t, "sh", "-c", strings.TrimPrefix(strings.TrimSpace(between(t, read(t, "../../docs/recipes.md"), "```console\n", "```")), "$ "))
}

// manual types the examples of the command's manual.
func manual(t *testing.T, h *harness.Host) {
	examples := regexp.MustCompile(`(?m)^    \$ (.*)$`).FindAllStringSubmatch(read(t, "../../cmd/zerolet/zerolet.1.md"), -1)
	if len(examples) < 10 {
		t.Errorf("only %d examples in the manual", len(examples))
	}
	for _, match := range examples {
		line := match[1]
		if strings.Contains(line, "--watch") { // until somebody ends it
			line = "timeout --preserve-status 2 " + line
		}
		if out, err := h.Session.Run(t.Context(), "sh", "-c", line); err != nil {
			t.Errorf("%s: %v\n%s%s", line, err, out.Stdout, out.Stderr)
		}
	}
}

// outgrowing moves the service of docs/outgrowing.md as far as that goes without
// a cluster: what is told and printed there is held to Knative in test/knative.
func outgrowing(t *testing.T, h *harness.Host) {
	const secret = "postgres://notes:s3cret@db/notes"
	doc := read(t, "../../docs/outgrowing.md")
	h.PutFile("notes.container", between(t, doc, "```ini\n", "```"))
	h.PutFile("notes.env", between(t, doc, "```sh\n", "```"))
	h.Must(t, "sh", "-c", "printf %s "+secret+" | podman secret create notes-db -")
	h.Must(t, "sh", "-c", "cd && "+strings.TrimPrefix(between(t, doc, "```console\n", "\n```"), "$ "))
	if out := h.Must(t, "sh", "-c", "cd && cat notes.yaml"); out != between(t, doc, "```yaml\n", "\n```") {
		t.Errorf("the export is another than in docs/outgrowing.md:\n%s", out)
	}
	inspect := "podman secret inspect" + between(t, doc, "```sh\npodman secret inspect", "|\n  kubectl")
	if out := h.Must(t, "sh", "-c", inspect+"; echo ."); out != secret+"." { // the full stop shows a newline before it
		t.Errorf("%s: %q, want %q", inspect, out, secret)
	}
	h.Must(t, "sh", "-c", "rm ~/.config/containers/systemd/notes.*")
}

// inline runs the commands in a document's text: those for the user's manager
// as the user, those for the system's as root.
func inline(t *testing.T, h *harness.Host, path string) {
	command := regexp.MustCompile("`((?:make|zerolet|systemctl|loginctl) [^`]+)`")
	for _, match := range command.FindAllStringSubmatch(read(t, path), -1) {
		line := match[1]
		if target, ok := strings.CutPrefix(line, "make "); ok {
			makeTarget(t, target)
			continue
		}
		line = strings.ReplaceAll(line, "USER", "user")
		s := h.Session
		if strings.HasPrefix(line, "loginctl ") {
			// logind asks for the caller's cgroup, and the lab enters from outside.
			s, line = h.M.Root(), "systemd-run --quiet --wait --pipe "+line
		}
		if strings.HasPrefix(line, "systemctl ") && !strings.Contains(line, "--user") {
			s = h.M.Root()
			if strings.Contains(line, "web") { // the documents' example is the user's
				line = strings.Replace(line, "systemctl", "systemctl --user", 1)
				s = h.Session
			}
		}
		if out, err := s.Run(t.Context(), "sh", "-c", line); err != nil {
			t.Errorf("%s: %s: %v\n%s%s", path, line, err, out.Stdout, out.Stderr)
		}
	}
}

func makeTarget(t *testing.T, target string) {
	t.Helper()
	target, _, _ = strings.Cut(target, " ")
	if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(target) + `:`).MatchString(read(t, "../../Makefile")) {
		t.Errorf("there is no make %s", target)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func between(t *testing.T, text, start, end string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, start)
	body, _, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("no %q in the text", start)
	}
	return body
}
