package scale

import (
	"regexp"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// With a network in Listen=, a stand-in has the container's names there and
// listens, awake or asleep. The container itself must not bear them on that
// network: it leaves it, or it stays under another container name.

// networkName is what Podman calls a network (NameRegex in its
// libpod/define/config.go), and here has a letter: "8080:80" is a port.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// network is the name of a network at the head of a value, and the rest. An
// address has brackets or no letter.
func (p *publishParser) network() (name, ports part, found bool) {
	name, ports, found = part{p.text, 0}.cut(':')
	found = found && p.unix && networkName.MatchString(name.s) && strings.ContainsFunc(name.s, isLetter) &&
		name.s != "localhost" && strings.Count(ports.s, ":") < 2
	return name, ports, found
}

func isLetter(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }

// onNetwork reads PORT[:CONTAINERPORT]. The stand-in has each port of its own
// network, so that the same one on both sides is what is usual.
func (p *publishParser) onNetwork(name, ports part) (err *quadlet.ValueError) {
	host, container, both := ports.cut(':')
	if !both {
		container = host
	}
	switch {
	case host.isPath():
		return host.errorf("write it like \"proxy.network:80\"", "a unix socket is on no network")
	case container.isPath():
		p.protocols, p.out.ContainerPath, p.out.Count = []string{"tcp"}, container.s, 1
		err = p.checkPath(container)
	default:
		p.protocols = []string{"tcp"}
		var numbers part
		if numbers, err = p.protocol(container); err == nil {
			p.out.ContainerPort, p.out.Count, err = numbers.ports("container port")
		}
		if !both {
			host = numbers
		}
	}
	if err != nil {
		return err
	}
	for _, protocol := range p.protocols {
		if protocol != "tcp" {
			return container.errorf("name only tcp ports of a network", "a stand-in on a network does not take %s", protocol)
		}
	}
	first, n, err := host.ports("port")
	switch {
	case err != nil:
		return err
	case n != p.out.Count:
		return host.errorf("both ranges must have the same length", "%s for %s", plural(n, "port"), plural(p.out.Count, "container port"))
	}
	p.out.HostNetwork, p.out.HostPort = name.s, first
	return nil
}

// The ways in which a container leaves its names to its stand-in.
const (
	StandInAuto   = "auto"
	StandInLeave  = "leave"  // the network
	StandInRename = "rename" // the container
)

// OnNetworks are the listeners on networks.
func (s *Spec) OnNetworks() []Listener {
	var on []Listener
	for _, l := range s.Listen {
		if l.HostNetwork != "" {
			on = append(on, l)
		}
	}
	return on
}

// mostPorts is how many sockets one message passes (SCM_MAX_FD in the kernel's
// include/net/scm.h).
const mostPorts = 253

// checkStandIn tells what a stand-in cannot do, and where the file hides from
// zerolet what it needs.
func (s *Spec) checkStandIn(ds *quadlet.Diagnostics) {
	on := s.OnNetworks()
	if len(on) == 0 {
		return
	}
	if len(on) > mostPorts {
		ds.Errorf(on[mostPorts].Pos, "write fewer ports", "a stand-in has at most %d ports", mostPorts)
	}
	if kind := s.File.Kind(); kind != "Container" && kind != "Pod" {
		ds.Errorf(on[0].Pos, "leave the network out: such a pod is reached by its ports; or write a .pod file", "a stand-in is for a container or a .pod file, not for what Podman plays")
	}
	if s.Native {
		ds.Errorf(on[0].Pos, "leave Mode= out: a container in Mode=proxy is reached through its stand-in", "a port of a network cannot be handed over with Mode=native")
	}
	if s.onUnix() {
		ds.Errorf(on[0].Pos, "leave one of the two out, or give the app's socket a port", "a file listens on unix sockets or on networks, not on both")
	}
	instead := map[string]string{
		"--name": "ContainerName", "--network-alias": "NetworkAlias", "--net-alias": "NetworkAlias", "--ip": "IP", "--ip6": "IP6",
		"--label": "Label", "-l": "Label", "--label-file": "Label", "--hostname": "HostName", "-h": "HostName",
	}
	for _, e := range s.File.All(s.File.Kind(), "PodmanArgs") {
		for _, arg := range e.Arguments() {
			option := optionOf(arg)
			if key := instead[option]; key != "" {
				ds.Errorf(e.Pos, "write "+key+"= in ["+s.File.Kind()+"]", "%s in PodmanArgs= hides from zerolet what the stand-in has to have", option)
			}
		}
	}
}

// optionOf is the option of an argument of Podman's, without a value that is joined to
// it: --hostname=wiki, -h=wiki and -hwiki are the same.
func optionOf(arg string) string {
	option, _, _ := strings.Cut(arg, "=")
	if len(option) > 2 && option[0] == '-' && option[1] != '-' {
		return option[:2]
	}
	return option
}

// checkStandInKey notes where StandIn= is, and tells where it does nothing.
func (s *Spec) checkStandInKey(e quadlet.Entry, ds *quadlet.Diagnostics) {
	s.StandInPos = e.Pos
	if len(s.OnNetworks()) == 0 {
		ds.Warnf(e.Pos, "name one in Listen=, such as proxy.network:80", "StandIn= has no effect: the file listens on no network")
	}
}
