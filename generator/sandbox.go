package generator

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/quadlet"
)

// sandbox takes from the proxy what a socket-activated forwarder does not
// need (systemd.exec(5)).
func (e *Endpoint) sandbox(s *unit.UnitSection) {
	for _, pair := range everySandbox() {
		add(s, pair[0], pair[1])
	}
	if e.manager == quadlet.User {
		for _, pair := range userSandbox() {
			add(s, pair[0], pair[1])
		}
		return
	}
	for _, pair := range systemSandbox() {
		if pair[0] == "RestrictAddressFamilies" && e.entered() {
			pair[1] = "AF_UNIX" // the entry makes the others
		}
		add(s, pair[0], pair[1])
	}
	e.forSockets(s)
}

// forSockets opens the system's sandbox as far as unix sockets need it. The
// kernel tells who a client is only as far as the proxy's user namespace knows
// the user. And the directory of an app's socket has to be seen, wherever it
// is; who may connect is a matter of its mode. It is the directory that the file
// mounts that is shown: systemd would follow a link that the container has made
// below it.
func (e *Endpoint) forSockets(s *unit.UnitSection) {
	if !slices.ContainsFunc(e.Forwards, func(f Forward) bool { return f.Listen.HostPath != "" }) {
		add(s, "PrivateUsers", "yes")
	}
	var shown []string
	home := "yes"
	for _, f := range e.Forwards {
		dir := cmp.Or(e.volume(f), filepath.Dir(f.Listen.ContainerPath))
		hidden, inHome := hides(f.Listen.ContainerFile)
		if hidden && !slices.Contains(shown, dir) {
			shown = append(shown, dir)
			add(s, "BindReadOnlyPaths", dir)
		}
		if inHome {
			home = "tmpfs" // with "yes" nothing can be shown in it (systemd.exec(5))
		}
	}
	if hidden, inHome := hides(e.Spec.PageFile()); hidden && e.Spec.Front.Page {
		add(s, "BindReadOnlyPaths", word("-"+e.Spec.Front.PageFile)) // without it there is zerolet's own
		if inHome {
			home = "tmpfs"
		}
	}
	add(s, "ProtectHome", home)
}

// hides reports whether the sandbox would hide a file, and in a home directory.
func hides(file string) (hidden, inHome bool) {
	below := func(dirs ...string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return strings.HasPrefix(file, dir+"/") })
	}
	inHome = below("/home", "/run/user")
	return inHome || below("/tmp", "/var/tmp"), inHome
}

// noListen leaves the proxy nothing to listen on but what it was given.
const noListen = "~@privileged @resources listen"

func everySandbox() [][2]string {
	return [][2]string{
		{"NoNewPrivileges", "yes"},
		{"LockPersonality", "yes"},
		{"MemoryDenyWriteExecute", "yes"},
		{"RestrictRealtime", "yes"},
		{"RestrictSUIDSGID", "yes"},
		{"SystemCallArchitectures", "native"},
		{"SystemCallErrorNumber", "EPERM"},
		{"UMask", "0077"},
	}
}

// systemSandbox also has the mount namespace and an own user. SocketBindDeny=
// is not in it: its program is compiled and loaded anew at every start, which
// takes 64 ms of systemd's one thread (measured on 257).
func systemSandbox() [][2]string {
	return [][2]string{
		{"DynamicUser", "yes"},
		{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"}, // sock_diag(7)
		{"CapabilityBoundingSet", ""},
		{"SystemCallFilter", "@system-service"},
		{"SystemCallFilter", noListen},
		{"RestrictNamespaces", "yes"},
		{"ProtectSystem", "strict"},
		{"ProtectProc", "invisible"},
		{"ProcSubset", "pid"},
		{"ProtectClock", "yes"},
		{"ProtectHostname", "yes"},
		{"ProtectKernelLogs", "yes"},
		{"ProtectKernelModules", "yes"},
		{"ProtectKernelTunables", "yes"},
		{"ProtectControlGroups", "yes"},
		{"PrivateDevices", "yes"},
		{"PrivateTmp", "yes"},
		{"PrivateIPC", "yes"},
		{"DevicePolicy", "closed"},
		{"RemoveIPC", "yes"},
	}
}

// userSandbox leaves out what makes a mount namespace: in a user manager that
// implies a user namespace, and an empty CapabilityBoundingSet= takes what is
// needed too. Entering the container's namespaces then fails with EPERM
// (tried on systemd 257).
func userSandbox() [][2]string {
	return [][2]string{
		{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"}, // rtnetlink(7): the container's addresses
		{"SystemCallFilter", "@system-service setns"},
		{"SystemCallFilter", noListen},
		{"KeyringMode", "private"}, // the system manager's default
		{"RestrictNamespaces", "user net"},
	}
}
