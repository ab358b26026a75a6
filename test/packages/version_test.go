package packages

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The version is that of the tag, else that of the changelog.
func TestVersion(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "packaging/changelog.yaml"} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) string {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Stderr = dir, t.Output()
		// Not the repository around a temporary directory, nor what a user has set.
		cmd.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir), "GIT_CONFIG_GLOBAL=/dev/null")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(string(out))
	}
	git := func(args ...string) {
		run(append([]string{"git", "-c", "user.name=n", "-c", "user.email=e@example.invalid"}, args...)...)
	}
	commit := func() { git("commit", "--allow-empty", "--message", "text") }
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, `0\.1\.0`}, // an archive, without git
		{func() { git("init"); commit() }, `0\.1\.0`},
		{func() { git("tag", "v0.2.0") }, `0\.2\.0`},
		{func() { commit(); git("tag", "other") }, `0\.2\.0\+1\.g[0-9a-f]{7,}`},
		{func() { git("tag", "v0.3.0-rc1") }, `0\.3\.0-rc1`},
		{func() { commit() }, `0\.3\.0-rc1\+1\.g[0-9a-f]{7,}`},
	} {
		step.do()
		got := run("make", "--silent", "--eval", "print-version: ; @echo '$(VERSION)'", "print-version")
		if !regexp.MustCompile("^" + step.want + "$").MatchString(got) {
			t.Errorf("the version is %q, want %s", got, step.want)
		}
	}
}
