package generator

import (
	"fmt"
	"hash/fnv"

	"github.com/zerolet/zerolet/quadlet"
)

// Private ports lie above the ephemeral range, from which the kernel gives
// ports to clients (32768-60999, ip(7), ip_local_port_range).
const (
	firstPrivate = 61000
	lastPrivate  = 65535
)

// privatePorts hands out the loopback ports on which Podman publishes a
// rootful container for its proxy.
type privatePorts struct {
	taken map[uint16]bool // of any protocol
	given map[string]uint16
}

// newPrivatePorts leaves out the ports that any file publishes itself.
func newPrivatePorts(files []*quadlet.File) *privatePorts {
	p := &privatePorts{taken: make(map[uint16]bool), given: make(map[string]uint16)}
	for _, f := range files {
		for _, l := range published(publishPorts(f)) {
			p.taken[l.HostPort] = true
		}
	}
	return p
}

// take gives a port that depends on the name alone unless two names collide,
// so that it is the same after every daemon-reload. It is false when none is
// left.
func (p *privatePorts) take(unit string, l quadlet.Publish) (uint16, bool) {
	const size = lastPrivate - firstPrivate + 1
	name := fmt.Sprintf("%s:%d", unit, l.ContainerPort)
	if l.Protocol != "tcp" {
		name += "/" + l.Protocol
	}
	if port, ok := p.given[name]; ok {
		return port, true
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	start := h.Sum32() % size
	for i := range uint32(size) {
		port := uint16(firstPrivate + (start+i)%size)
		if !p.taken[port] {
			p.taken[port] = true
			p.given[name] = port
			return port, true
		}
	}
	return 0, false
}
