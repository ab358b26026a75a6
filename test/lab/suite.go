package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// DefaultSuite is the suite of a machine whose options name none.
const DefaultSuite = "trixie"

// suite is a release of Debian: what its tree has that those of others have not.
type suite struct {
	packages []string
	setup    string // what runs after setup.sh
}

func suites() map[string]suite {
	return map[string]suite{
		// systemd 252, Podman 4.3 without Quadlet. It gives rootless containers slirp4netns; netavark 1.4 speaks
		// iptables only.
		"bookworm": {packages: []string{"runc", "slirp4netns", "iptables"}},
		// systemd 257, Podman 5.4.
		"trixie": {packages: []string{"crun", "passt"}},
		// systemd 262, Podman 5.8.
		"forky": {packages: []string{"crun", "passt"}, setup: oneBootID + anyRelease},
	}
}

// ProtectControlGroups= gives logind a /proc of its own where the API file systems are writable, and that one
// lacks the boot id which systemd-nspawn has mounted. Since systemd 258 a client names a process by its boot,
// too, so logind refuses pam_systemd's sessions and the user's manager has no $XDG_RUNTIME_DIR
// (https://github.com/systemd/systemd/issues/40135).
const oneBootID = `
mkdir /etc/systemd/system/systemd-logind.service.d
printf '[Service]\nProtectControlGroups=no\n' >/etc/systemd/system/systemd-logind.service.d/lab.conf
`

// A Release file of testing is valid for a week, and a mirror can be a copy that is older. debootstrap does not
// ask; apt is not to either. Both still check the signature.
const anyRelease = `
echo 'Acquire::Check-Valid-Until "false";' >/etc/apt/apt.conf.d/lab
`

// Suites names the suites that a machine can have.
func Suites() []string { return slices.Sorted(maps.Keys(suites())) }

func findSuite(name string) (suite, error) {
	s, ok := suites()[name]
	if !ok {
		return s, fmt.Errorf("no such suite: %q, only %s", name, strings.Join(Suites(), ", "))
	}
	return s, nil
}
