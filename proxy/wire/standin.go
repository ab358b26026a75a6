package wire

import (
	"cmp"
	"fmt"
	"strings"
)

// StandInProxy is where a stand-in, in its own file system, finds the proxy.
const StandInProxy = "/run/zerolet/proxy"

// StandInArgs are the arguments of zerolet-standin for the addresses that it listens
// on.
func StandInArgs(listen []Address) []string {
	args := []string{StandInProxy}
	for _, a := range listen {
		args = append(args, fmt.Sprintf("%s:%d", a.Device, a.IP.Port()))
	}
	return args
}

// StandInNetwork is the option of podman-run(1) that has a stand-in in a network, by
// the interface that has this name.
func StandInNetwork(network, device string) string {
	return "--network=" + network + deviceOption + device
}

const deviceOption = ":interface_name="

// StandInPorts are the addresses, NETWORK:PORT each, that the words of a command with
// such options and arguments tell.
func StandInPorts(words []string) []string {
	networks := make(map[string]string) // by the interface
	var ports []string
	at := false
	for _, word := range words {
		switch {
		case word == StandInProxy:
			at, ports = true, nil
		case !at:
			network, options, _ := strings.Cut(strings.TrimPrefix(word, "--network="), deviceOption)
			device, _, _ := strings.Cut(options, ",")
			networks[device] = network
		case !strings.Contains(word, ":"):
			return ports
		default:
			device, port, _ := strings.Cut(word, ":")
			ports = append(ports, cmp.Or(networks[device], device)+":"+port)
		}
	}
	return ports
}
