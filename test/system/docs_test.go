package system

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Every command in README and docs does what it says: the file to copy, the
// lines after "$" and "#", and the commands inside the text.
func TestDocs(t *testing.T) {
	t.Parallel()
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
			hungUp(h, line)
			h.Must(t, "sh", "-c", strings.TrimPrefix(line, "$ "))
			h.WaitState("web-proxy.socket", "active")
		}
	}
	if out := h.Must(t, "curl", "-sS", "http://localhost:8080/"); !strings.Contains(out, "nginx") {
		t.Errorf("the README's file is not served: %s", out)
	}
	outgrowing(t, h)
	h.Must(t, "zerolet", "wake", "web")
	left := untyped()
	for _, path := range documents(t) {
		inline(t, h, path, left)
	}
	for line := range left {
		t.Errorf("%q stands in no document: it need not be excused", line)
	}
	manual(t, h)
	h.Must(t, "sh", "-c", strings.TrimPrefix(strings.TrimSpace(between(t, read(t, "../../docs/recipes.md"), "```console\n", "```")), "$ "))
	questions(t, h)
}

// documents are the manuals, which want the service awake, and then the others.
func documents(t *testing.T) []string {
	t.Helper()
	manuals, err := filepath.Glob("../../cmd/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	internals, err := filepath.Glob("../../docs/internals/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(manuals, docs, internals, []string{"../../README.md", "../../CONTRIBUTING.md", "../../SECURITY.md"})
}

// untyped is what stands in a document's text, looks like a command, and is not
// typed by inline, and why not.
func untyped() map[string]string {
	return map[string]string{
		"go test ./quadlet/scale":             "needs Go, which the lab has not: make check runs it",
		"listen [::]:8080 ipv6only=off;":      "a line of nginx's configuration",
		"local … peer":                        "a line of PostgreSQL's pg_hba.conf",
		"local … trust":                       "as the one before",
		"local all all scram-sha-256":         "as the one before",
		"not listening":                       "a state that zerolet status shows",
		"open /proc/PID/ns/net":               "a system call",
		"podman container prune":              "asks first: TestPrunedNothing types it with --force",
		"podman image prune --all":            "as the one before",
		"podman pod prune":                    "as the one before",
		"podman system prune":                 "as the one before",
		"podman system prune --all --volumes": "as the one before",
		"podman volume prune":                 "as the one before",
		"podman manifest add":                 "is no whole command: TestUpdate types it",
		"podman tag":                          "as the one before",
		"podman network prune":                "asks first: TestPruned types it with --force",
		"podman image rm":                     "is no whole command: questions types it",
		"podman volume rm":                    "as the one before",
		"zerolet place":                       "is for units, and names one: TestManyStart has systemd type it",
		"podman run":                          "names what was measured, and is no whole command",
		"podman healthcheck run":              "is no whole command: TestHealthy has systemd type it",
		"systemctl set-environment":           "is no whole command: TestManyStart types it",
		"podman exec":                         "names what is counted, and is no whole command",
		"sudo go -C test test -count=1 ./system -run 'TestDocs$'": "boots a lab: this is that test",
		"systemd-analyze security":                                "heads a table: TestExposure types it for each unit",
		"systemd-socket-proxyd --exit-idle-time=":                 "a part of what is replaced",
	}
}

// questions types what docs/faq.md says of a sleeping service, and looks whether
// it is so.
func questions(t *testing.T, h *harness.Host) {
	asleep := func() {
		const line = "zerolet sleep web"
		hungUp(h, line)
		h.Must(t, "sh", "-c", line)
	}
	asleep()
	h.PutFile("web.container.d/update.conf", "[Container]\nAutoUpdate=local\n")
	h.Reload()
	if out := h.Must(t, "podman", "auto-update"); strings.Contains(out, "web") {
		t.Errorf("a sleeping container is updated: %s", out)
	}
	h.Must(t, "zerolet", "wake", "web")
	if out := h.Must(t, "podman", "auto-update"); !strings.Contains(out, "web.service") {
		t.Errorf("one that is awake is not: %s", out)
	}

	asleep()
	h.Must(t, "sh", "-c", "yes | podman system prune --all --volumes && podman image exists localhost/nginx && ! podman image rm localhost/nginx")
	h.Must(t, "podman", "image", "rm", "--force", "localhost/nginx")
	out, err := h.Session.Run(t.Context(), "zerolet", "doctor")
	if err == nil || !strings.Contains(out.Stdout, "localhost/nginx") {
		t.Errorf("the doctor misses no image: %v\n%s", err, out.Stdout)
	}
}

// TestDocsBlocks keeps the blocks that look like a terminal to the documents
// whose test types them.
func TestDocsBlocks(t *testing.T) {
	typed := map[string]int{
		"README.md":     3, // TestDocs
		"recipes.md":    1, // TestDocs
		"tour.md":       7, // TestTour
		"outgrowing.md": 3, // outgrowing, but for kubectl: there is no cluster
	}
	for _, path := range documents(t) {
		name := filepath.Base(path)
		if n := len(regexp.MustCompile("(?m)^```(console|sh|bash)$").FindAllString(read(t, path), -1)); n != typed[name] {
			t.Errorf("%s has %d blocks of commands, %d are typed", name, n, typed[name])
		}
	}
}

// manual types the examples of the command's manual.
func manual(t *testing.T, h *harness.Host) {
	examples := regexp.MustCompile(`(?m)^    \$ (.*)$`).FindAllStringSubmatch(read(t, "../../cmd/zerolet/zerolet.1.md"), -1)
	if len(examples) < 10 {
		t.Errorf("only %d examples in the manual", len(examples))
	}
	for _, match := range examples {
		line := match[1]
		if strings.Contains(line, "--watch") { // somebody ends it who has seen something
			line = "mkfifo shown && { " + line + ` >shown & } && exec 3<shown && read -r first <&3 && kill $! && wait $!`
		}
		hungUp(h, line)
		if out, err := h.Session.Run(t.Context(), "sh", "-c", line); err != nil {
			t.Errorf("%s: %v\n%s%s", line, err, out.Stdout, out.Stderr)
		}
	}
}

// hungUp lets the proxy notice that who has woken the service has left, before a command has it sleep.
func hungUp(h *harness.Host, line string) {
	h.Helper()
	if strings.Contains(line, "zerolet sleep") {
		h.Unused("web")
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

// inline types the commands in a document's text: those for the user's manager
// as the user, those for the system's as root. What looks like a command and is
// none is deleted from left.
func inline(t *testing.T, h *harness.Host, path string, left map[string]string) {
	excused := untyped()
	text := regexp.MustCompile("(?ms)^```.*?^```").ReplaceAllString(read(t, path), "")
	for i, line := range strings.Split(text, "`") {
		if i%2 == 0 || !regexp.MustCompile(`^[a-z][a-z0-9_-]*\s`).MatchString(line) {
			continue
		}
		if _, ok := excused[line]; ok {
			delete(left, line)
			continue
		}
		if target, ok := strings.CutPrefix(line, "make "); ok {
			makeTarget(t, target)
			continue
		}
		line = strings.NewReplacer("USER", "user", "NAME", "web").Replace(line)
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
		hungUp(h, line)
		if out, err := s.Run(t.Context(), "sh", "-c", line); err != nil {
			t.Errorf("%s: %s: %v\n%s%s", path, line, err, out.Stdout, out.Stderr)
		}
		if strings.HasSuffix(line, " web.service") { // by hand, it goes again at once if nobody needs it
			h.Wait("it is needed, or gone", func() bool {
				return h.State("web-proxy.service") == "active" || h.State("web.service") == "inactive"
			}, "web.service")
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
