package packages

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// packaging/rpm/zerolet.spec builds from the archives of "make sources" alone,
// without a network. Its package has the files of the other rpm, and besides
// only licences; it says what is bundled; its scripts are the same.
func TestSpec(t *testing.T) {
	t.Parallel()
	sources := t.TempDir()
	script := `make -C ../.. sources VERSION=0.1.0 && mkdir "$1/src" && cp ../../dist/*.tar.gz ../../dist/*.toml ../../packaging/rpm/zerolet.spec "$1/src"`
	if out, err := exec.Command("flock", "../../Makefile", "sh", "-c", script, "sh", sources).CombinedOutput(); err != nil {
		t.Fatalf("make sources: %v\n%s", err, out)
	}
	// Debian's Go is too old. With the host's cache its library is not built anew.
	goroot, gocache := goEnv(t, "GOROOT"), goEnv(t, "GOCACHE")
	m := harness.Packages(t, goroot, gocache)
	if err := m.Install(t.Context(), sources); err != nil {
		t.Fatal(err)
	}
	root := m.Root()
	// dpkg owns the machine: rpm does not know what is there to build with. The
	// proxy's tests wait for real time, and have run before: one tells that they
	// can run where systemd and a journal are. The name of the documentation's
	// directory is Fedora's.
	const check = "gotest() CGO_ENABLED=0 go test -trimpath ./cmd/... ./generator ./quadlet && CGO_ENABLED=0 go test -trimpath -run TestExitStatus ./proxy"
	out, err := root.Run(t.Context(), "env", "PATH="+goroot+"/bin:/usr/sbin:/usr/bin", "GOCACHE="+gocache, "GOPROXY=off", "GOTOOLCHAIN=local",
		"rpmbuild", "-bb", "--nodeps", "--define", "_sourcedir /src", "--define", "_rpmdir /built", "--define", "_docdir_fmt %%{NAME}",
		"--define", check, "/src/zerolet.spec")
	if err != nil {
		t.Fatalf("rpmbuild: %v\n%s", err, out.Stdout)
	}
	if !strings.Contains(out.Stdout, "github.com/zerolet/zerolet/proxy\t") {
		t.Errorf("%%check did not run the tests:\n%s", out.Stdout)
	}
	root.Must(t, "sh", "-c", "mv /built/*/zerolet-0*.rpm /built/spec.rpm && ln -s /pkg/zerolet-0.1.0-*.rpm /built/nfpm.rpm"+
		" && mv /built/noarch/zerolet-cockpit-0*.rpm /built/spec-cockpit.rpm && ln -s /pkg/zerolet-cockpit-0.1.0-*.rpm /built/nfpm-cockpit.rpm")

	root.Must(t, "sh", "-c", "rpm2archive -n /built/spec.rpm | tar -C / -x ./usr/bin ./usr/libexec/zerolet")
	expectVersion(t, root, "0.1.0")

	query := func(rpm, query string) string {
		return root.Must(t, "sh", "-c", "rpm -qp "+query+" /built/"+rpm)
	}
	files := func(rpm string) []string {
		licences := regexp.MustCompile(`(?m)^/usr/share/licenses/.*\n?`)
		return slices.Sorted(slices.Values(strings.Fields(licences.ReplaceAllString(query(rpm, "--list"), ""))))
	}
	for _, name := range []string{".rpm", "-cockpit.rpm"} {
		if got, want := files("spec"+name), files("nfpm"+name); !slices.Equal(got, want) {
			t.Errorf("the spec makes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		for _, tag := range []string{"URL", "LICENSE", "SUMMARY", "ARCH", "VERSION", "RELEASE", "POSTIN", "POSTUN", "CHANGELOGNAME"} {
			got, want := query("spec"+name, "--queryformat '%{"+tag+"}'"), query("nfpm"+name, "--queryformat '%{"+tag+"}'")
			if strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("%s is\n%s\nwant\n%s", tag, got, want)
			}
		}
	}

	provides, licences := query("spec.rpm", "--provides")+"\n", query("spec.rpm", "--licensefiles")+"\n"
	modules := regexp.MustCompile(`(?m)^# (\S+) v(\S+)$`).FindAllStringSubmatch(
		root.Must(t, "tar", "-xOf", "/src/zerolet-0.1.0-vendor.tar.gz", "vendor/modules.txt"), -1)
	if len(modules) == 0 {
		t.Error("no module is vendored")
	}
	for _, module := range modules {
		if want := "bundled(golang(" + module[1] + ")) = " + module[2] + "\n"; !strings.Contains(provides, want) {
			t.Errorf("the package does not say that it provides %s", want)
		}
		if want := "/usr/share/licenses/zerolet/vendor/" + module[1] + "/LICENSE\n"; !strings.Contains(licences, want) {
			t.Errorf("the package lacks %s", want)
		}
	}
	if said := strings.Count(provides, "bundled("); said != len(modules) {
		t.Errorf("the package says that %d modules are bundled, %d are:\n%s", said, len(modules), provides)
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
