package generator

import (
	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/quadlet"
)

// sandbox takes from the proxy what a socket-activated forwarder does not
// need (systemd.exec(5)).
func (e *Endpoint) sandbox(s *unit.UnitSection) {
	for _, pair := range everySandbox() {
		add(s, pair[0], pair[1])
	}
	own := systemSandbox()
	if e.manager == quadlet.User {
		own = userSandbox()
	}
	for _, pair := range own {
		add(s, pair[0], pair[1])
	}
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
		{"ProtectHome", "yes"},
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
		{"PrivateUsers", "yes"},
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
		{"RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"},
		{"SystemCallFilter", "@system-service setns"},
		{"SystemCallFilter", noListen},
		{"KeyringMode", "private"}, // the system manager's default
		{"RestrictNamespaces", "user net"},
	}
}
