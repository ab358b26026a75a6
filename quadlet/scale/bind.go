package scale

import (
	"os"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// UnprivilegedPort is the first port that a user may listen on (ip(7),
// ip_unprivileged_port_start), or 0 if that is not known.
func UnprivilegedPort() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 0
	}
	port, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return port
}

// PrivilegedPortHint is what helps where a user may not listen on a port.
const PrivilegedPortHint = "as root: sysctl net.ipv4.ip_unprivileged_port_start=PORT, and the same in /etc/sysctl.d for the next boot; or publish a higher port"

// checkPorts warns of ports that the user's manager may not listen on. It is no
// error: what is written to /proc/sys comes in force at once, and without us.
func (s *Spec) checkPorts(ds *quadlet.Diagnostics) {
	if s.search.Manager == quadlet.System || s.search.UID == 0 {
		return
	}
	var low []Listener
	lowest := s.search.UnprivilegedPort
	for _, l := range s.Listen {
		if port := int(l.HostPort); l.HostPath == "" && l.HostNetwork == "" && port < s.search.UnprivilegedPort {
			low, lowest = append(low, l), min(lowest, port)
		}
	}
	for i, l := range low {
		if i == 0 || l.Pos != low[i-1].Pos {
			ds.Warnf(l.Pos, strings.Replace(PrivilegedPortHint, "PORT", strconv.Itoa(lowest), 1),
				"users may listen on ports from %d on, not on %d", s.search.UnprivilegedPort, l.HostPort)
		}
	}
}
