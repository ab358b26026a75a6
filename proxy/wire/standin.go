package wire

import (
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

// StandInPorts are the addresses, DEVICE:PORT each, that words with such arguments
// tell.
func StandInPorts(words []string) []string {
	var ports []string
	at := false
	for _, word := range words {
		switch {
		case word == StandInProxy:
			at, ports = true, nil
		case !at:
		case !strings.Contains(word, ":"):
			return ports
		default:
			ports = append(ports, word)
		}
	}
	return ports
}
