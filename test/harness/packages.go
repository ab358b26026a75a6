package harness

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/zerolet/zerolet/test/lab"
)

// PackageKind is how root installs, upgrades and removes one kind of package on
// a machine of [Packages], as command lines for a shell.
type PackageKind struct{ Name, Install, Upgrade, Remove string }

// PackageKinds are those that "make package" makes. dpkg owns the machine: rpm
// does not know what the package depends on.
func PackageKinds() []PackageKind {
	return []PackageKind{
		{"deb", "dpkg -i /pkg/zerolet_0.1.0-*.deb", "dpkg -i /pkg/zerolet_0.1.1-*.deb", "dpkg -r zerolet"},
		{"rpm", "rpm -i --nodeps /pkg/zerolet-0.1.0-*.rpm", "rpm -U --nodeps /pkg/zerolet-0.1.1-*.rpm", "rpm -e --nodeps zerolet"},
	}
}

// packages is a directory with the packages of two versions, below /pkg.
var packages = sync.OnceValues(func() (string, error) { // once for each process
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "packages")
	for _, version := range []string{"0.1.0", "0.1.1"} {
		// Other tests build there, too.
		const script = `make -C ../.. package VERSION=$1 && mkdir -p "$2/pkg" && cp ../../dist/*_$1-*.deb ../../dist/*-$1-*.rpm "$2/pkg"`
		out, err := exec.Command("flock", "../../Makefile", "sh", "-c", script, "sh", version, dir).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("make package: %w\n%s", err, out)
		}
	}
	return dir, nil
})

// Packages is a machine with the packages in /pkg and what Debian has to check
// them. zerolet is not installed.
func Packages(t testing.TB, bind ...string) *lab.Machine {
	t.Helper()
	// debootstrap takes no provider of a virtual package by itself: lintian needs
	// perl-openssl-defaults, rpmlint python3-cffi-backend.
	m := lab.New(t, lab.Options{Bounded: true, Bind: bind, Packages: []string{
		"rpm", "rpmlint", "python3-cffi-backend", "lintian", "perl-openssl-defaults", "go-md2man",
		"bash-completion", "zsh", "fish",
	}})
	dir, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Install(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return m
}

// WatchesPrograms waits until the manager knows of it when the programs are removed from now on. A path unit sees nothing
// before it is up, nor while what it has started runs (systemd.path(5)), as that does for a moment after an upgrade.
func (h *Host) WatchesPrograms() {
	h.Helper()
	if !h.UserManager {
		return // the package's script tells that of the system
	}
	h.Wait("the manager watches the programs", func() bool {
		return h.Property("zerolet-removed.path", "SubState") == "waiting" && h.State("zerolet-removed.service") == "inactive"
	}, "zerolet-removed.path", "zerolet-removed.service")
}
