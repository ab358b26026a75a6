package packages

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// What Debian's and Fedora's linters say is overridden with a reason, in
// packaging/deb/lintian-overrides and packaging/rpm/zerolet.rpmlintrc, or
// mended. Both linters also report an override that nothing needs.
func TestLint(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	root := m.Root()
	out := root.Must(t, "sh", "-c", "lintian --allow-root --pedantic --display-info --tag-display-limit 0 --fail-on none /pkg/zerolet_0.1.0-*.deb /pkg/zerolet-cockpit_0.1.0-*.deb")
	if out != "" {
		t.Errorf("lintian:\n%s", out)
	}
	for _, name := range []string{"zerolet.spec", "zerolet.rpmlintrc"} {
		text, err := os.ReadFile("../../packaging/rpm/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := root.Put(t.Context(), "/pkg/"+name, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	// An error is an exit status, a warning is not.
	said, err := root.Run(t.Context(), "sh", "-c", "rpmlint -r /pkg/zerolet.rpmlintrc /pkg/zerolet-0.1.0-*.rpm /pkg/zerolet-cockpit-0.1.0-*.rpm /pkg/zerolet.spec")
	if err != nil || !strings.Contains(said.Stdout, " 2 packages and 1 specfiles checked; 0 errors, 0 warnings,") {
		t.Errorf("rpmlint: %v\n%s", err, said.Stdout)
	}
}

// A package holds what its target of make installs, and its own documentation. The
// rpm owns no directory that is others', too.
func TestFiles(t *testing.T) {
	t.Parallel()
	m := harness.Packages(t)
	for target, kinds := range map[string][]packageList{
		"install": {
			// Debian's zsh has a directory of its own for what packages bring.
			{"dpkg-deb --fsys-tarfile /pkg/zerolet_0.1.0-*.deb | tar -t | sed -n 's|^[.]||;s|zsh/vendor-completions|zsh/site-functions|;/[^/]$/p'", []string{
				"/usr/share/doc/zerolet/changelog.Debian.gz", "/usr/share/doc/zerolet/copyright", "/usr/share/lintian/overrides/zerolet",
			}},
			{"rpm -qlp /pkg/zerolet-0.1.0-*.rpm", []string{
				"/usr/libexec/zerolet", "/usr/libexec/zerolet/standin", "/usr/share/doc/zerolet", "/usr/share/doc/zerolet/README.md",
				"/usr/share/licenses/zerolet", "/usr/share/licenses/zerolet/LICENSE", "/usr/share/licenses/zerolet/copyright",
			}},
		},
		"install-cockpit": {
			{"dpkg-deb --fsys-tarfile /pkg/zerolet-cockpit_0.1.0-*_all.deb | tar -t | sed -n 's|^[.]||;/[^/]$/p'", []string{
				"/usr/share/doc/zerolet-cockpit/changelog.Debian.gz", "/usr/share/doc/zerolet-cockpit/copyright", "/usr/share/lintian/overrides/zerolet-cockpit",
			}},
			{"rpm -qlp /pkg/zerolet-cockpit-0.1.0-*.noarch.rpm", []string{
				"/usr/share/cockpit/zerolet", "/usr/share/doc/zerolet-cockpit", "/usr/share/doc/zerolet-cockpit/cockpit.md",
				"/usr/share/licenses/zerolet-cockpit", "/usr/share/licenses/zerolet-cockpit/LICENSE",
			}},
		},
	} {
		installed := installedBy(t, target)
		for _, kind := range kinds {
			got := strings.Split(regexp.MustCompile(`(/man/.*)\.gz`).ReplaceAllString(m.Root().Must(t, "sh", "-c", kind.list), "$1"), "\n")
			slices.Sort(got)
			want := slices.Sorted(slices.Values(slices.Concat(installed, kind.own)))
			if !slices.Equal(got, want) {
				t.Errorf("%s:\n%s\nwant\n%s", kind.list, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
}

// packageList is a command that lists a package, and what is there besides.
type packageList struct {
	list string
	own  []string
}

// installedBy are the files that a target of make installs.
func installedBy(t *testing.T, target string) (files []string) {
	t.Helper()
	root := t.TempDir()
	if out, err := exec.Command("flock", "../../Makefile", "make", "-C", "../..", target, "DESTDIR="+root).CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
