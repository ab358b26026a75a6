// Package knative holds what "zerolet export knative" writes to Knative
// Serving's own code.
package knative

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	servingv1 "knative.dev/serving/pkg/apis/serving/v1"

	"github.com/zerolet/zerolet/test/corpus"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	binary string // zerolet
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "zerolet-knative-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "zerolet")
		if out, err := exec.Command("go", "-C", "../..", "build", "-o", binary, "./cmd/zerolet").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// moduleDir is where the source of a module is that another one in dir needs.
func moduleDir(dir, module string) (string, error) {
	if out, err := exec.Command("go", "-C", dir, "mod", "download", module).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	out, err := exec.Command("go", "-C", dir, "list", "-m", "-f", "{{.Dir}}", module).Output()
	return strings.TrimSpace(string(out)), err
}

// export is one run of the command.
type export struct {
	status int
	stdout []byte
	stderr string
}

func run(t *testing.T, dir string, args ...string) export {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"export", "knative", "--user"}, args...)...)
	cmd.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir, "NO_COLOR=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return export{cmd.ProcessState.ExitCode(), stdout.Bytes(), stderr.String()}
}

// problem is a diagnostic with its place.
var problem = regexp.MustCompile(`(?m)^/\S+\.(?:container|conf|image|build)(?::\d+:\d+)?: (error|warning|note): .+$`)

func (e export) told(severity string) int {
	n := 0
	for _, match := range problem.FindAllStringSubmatch(e.stderr, -1) {
		if match[1] == severity {
			n++
		}
	}
	return n
}

// features are those that the export says it needs.
func (e export) features() []string {
	var out []string
	for _, line := range strings.Split(e.stderr, "\n") {
		if strings.Contains(line, "Knative takes it only with") {
			out = append(out, regexp.MustCompile(`kubernetes\.[a-z-]+`).FindAllString(line, -1)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// outcome is what became of a file.
type outcome int

const (
	refused outcome = iota
	told            // exported, with warnings
	whole           // exported, and with --strict, too
)

// check exports one file, with and without --strict: what is printed is valid
// for a Knative that has the features which were named and no less; what is
// not printed has a reason. With --strict it is valid for a Knative as it is
// installed.
func check(t *testing.T, dir, name string) outcome {
	t.Helper()
	e, strict := run(t, dir, name), run(t, dir, "--strict", name)
	if e.status == 1 {
		if e.told("error") == 0 || len(e.stdout) > 0 {
			t.Errorf("%s: refused without a reason: %s%s", name, e.stderr, e.stdout)
		}
		return refused
	}
	if e.status != 0 {
		t.Fatalf("%s: status %d: %s", name, e.status, e.stderr)
	}
	features := e.features()
	if _, err := newCluster(t, features...).apply(e.stdout, e.stderr); err != nil {
		t.Errorf("%s: not valid: %v\n%s%s", name, err, e.stdout, e.stderr)
	}
	for i, f := range features {
		without := slices.Delete(slices.Clone(features), i, i+1)
		if _, err := newCluster(t, without...).apply(e.stdout, e.stderr); err == nil {
			t.Errorf("%s: it does not need %s", name, f)
		}
	}
	if e.told("warning") > 0 {
		if strict.status != 1 || len(strict.stdout) > 0 || strict.told("error") != e.told("warning") {
			t.Errorf("%s: --strict lets it pass: status %d\n%s", name, strict.status, strict.stderr)
		}
		return told
	}
	if strict.status != 0 || !bytes.Equal(strict.stdout, e.stdout) {
		t.Errorf("%s: --strict is another export: status %d\n%s", name, strict.status, strict.stderr)
	}
	if _, err := newCluster(t).apply(strict.stdout, strict.stderr); err != nil {
		t.Errorf("%s: not valid for Knative as it is installed: %v", name, err)
	}
	return whole
}

// applied exports files, and applies what is valid.
func applied(t *testing.T, dir string, names ...string) (*stream, export) {
	t.Helper()
	e := run(t, dir, names...)
	s, err := newCluster(t, e.features()...).apply(e.stdout, e.stderr)
	if err != nil {
		t.Fatalf("%v\n%s%s", err, e.stdout, e.stderr)
	}
	return s, e
}

// one exports a file of this text.
func one(t *testing.T, text string) (*servingv1.Service, export) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "web.container"), text)
	s, e := applied(t, dir, "web")
	if e.status != 0 {
		t.Fatalf("status %d: %s", e.status, e.stderr)
	}
	return s.services[0], e
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every file of the corpus is valid or refused with a reason, alone and in one
// stream. What it takes from localhost is taken from a registry, as by a user
// who has pushed it.
func TestCorpus(t *testing.T) {
	dir, names := corpus.Copy(t, func(i int, text string) string {
		dropin := fmt.Sprintf("[ScaleToZero]\nListen=%d:8080\n", 20000+i)
		if strings.Contains(text, "\nImage=localhost/") {
			dropin += "[Container]\nImage=registry.example.com/imagename:1\n"
		}
		return dropin
	})
	count := make(map[outcome]int)
	for _, name := range names {
		count[check(t, dir, name)]++
	}
	others, err := filepath.Glob(filepath.Join(dir, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range others {
		if strings.HasPrefix(filepath.Ext(path), ".container") || filepath.Ext(path) == ".d" {
			continue
		}
		if e := run(t, dir, path); e.status != 2 || !strings.Contains(e.stderr, "no scaled container") {
			t.Errorf("%s: status %d: %s", path, e.status, e.stderr)
		}
	}
	s, all := applied(t, dir)
	if all.status != 1 || len(s.services) != count[told]+count[whole] {
		t.Errorf("all in one stream: status %d, %d services: %s", all.status, len(s.services), all.stderr)
	}
	record(t, fmt.Sprintf("| Podman's own Quadlet tests | %d | %d | %d |\n", count[whole], count[told], count[refused]))
}

// record holds a row of the table in docs/outgrowing.md to what was seen.
func record(t *testing.T, row string) {
	t.Helper()
	const path = "../../docs/outgrowing.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
	line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(begin) + ` \|.*\n`)
	golden(t, path, line.ReplaceAllString(string(data), row))
}

// The real-life files are valid or refused with a reason, and what is said and
// written of each is recorded beside it.
func TestRealLife(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.container"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no real-life files: %v", err)
	}
	count := make(map[outcome]int)
	for _, path := range paths {
		name := filepath.Base(path)
		count[check(t, dir, name)]++
		e := run(t, dir, name)
		text := fmt.Sprintf("exit status %d\n%s\n%s", e.status, e.stderr, e.stdout)
		golden(t, strings.TrimSuffix(path, ".container")+".export", strings.ReplaceAll(text, dir, "/DIR"))
	}
	record(t, fmt.Sprintf("| files of well-known apps | %d | %d | %d |\n", count[whole], count[told], count[refused]))
}

// The service that docs/outgrowing.md moves is what the document says.
func TestDocument(t *testing.T) {
	const path = "../../docs/outgrowing.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	doc, dir := string(data), t.TempDir()
	blocks := make(map[string]string) // the first of each language
	for _, match := range regexp.MustCompile("(?sm)^```([a-z]+)$(.*?\n)```$").FindAllStringSubmatch(doc, -1) {
		if _, ok := blocks[match[1]]; !ok {
			blocks[match[1]] = match[2]
		}
	}
	write(t, filepath.Join(dir, "notes.container"), blocks["ini"])
	write(t, filepath.Join(dir, "notes.env"), blocks["sh"])
	if got := check(t, dir, "notes"); got != whole {
		t.Errorf("the document's service is not exported as a whole: %v", got)
	}
	e := run(t, dir, "--strict", "notes")
	told := strings.ReplaceAll(e.stderr, dir, "/home/user/.config/containers/systemd")
	doc = strings.Replace(doc, "```text"+blocks["text"]+"```", "```text\n"+fold(told)+"```", 1)
	doc = strings.Replace(doc, "```yaml"+blocks["yaml"]+"```", "```yaml\n"+string(e.stdout)+"```", 1)
	golden(t, path, doc)
}

// fold breaks what a terminal shows into lines of a document.
func fold(text string) string {
	const columns = 120
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		for len(line) > columns {
			at := strings.LastIndex(line[:columns+1], " ")
			lines = append(lines, line[:at])
			line = "    " + line[at+1:]
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		write(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: not as recorded (make golden, and read the difference); got:\n%s", path, got)
	}
}
