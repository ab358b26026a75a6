package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

// The ways to an app for a client on the same bridge: by its stand-in, and to one that
// is itself there. The port that Podman publishes is measured beside them.
const (
	bridge  = "on the bridge"
	standIn = "zerolet's stand-in"
)

// byName are the columns of the table about them.
func byName() []string { return []string{plain, bridge, standIn} }

// bridgeFiles are the network, an app on it, one with a stand-in, and a client.
func bridgeFiles(s *lab.Session) map[string]string {
	named := []string{"ContainerName=named", "Network=bench.network", "[ScaleToZero]", "IdleTimeout=infinity", "StandIn=rename"}
	for _, port := range appPorts() {
		named = append(named, fmt.Sprintf("Listen=bench.network:%d", port))
	}
	return map[string]string{
		// Podman refuses a subnet that the other manager's bridge has.
		"bench.network":     fmt.Sprintf("[Network]\nSubnet=10.%d.0.0/24\n", 90+base(s)/1000-21),
		"direct.container":  container(s, 0, nil, "ContainerName=direct", "Network=bench.network"),
		"visitor.container": container(s, 0, nil, "ContainerName=visitor", "Network=bench.network"),
		"named.container":   container(s, 0, nil, named...),
	}
}

// bridgePeers are the ways for the client.
func bridgePeers(ctx context.Context, s *lab.Session) ([]*peer, error) {
	inspect := func(container, format string) (string, error) {
		out, err := s.Run(ctx, "podman", "inspect", "--format="+format, container)
		return strings.TrimSpace(out.Stdout), err
	}
	pid, err := inspect("visitor", "{{.State.Pid}}")
	if err != nil {
		return nil, err
	}
	all := []*peer{
		{name: bridge, host: "direct"},
		{name: standIn, host: "systemd-named-standin", units: []string{"named-proxy.service", "named-standin.service"}},
	}
	for _, p := range all {
		p.session, p.netns = s, "/proc/"+pid+"/ns/net"
		container := p.host
		slow := until(ctx, container+" is there", 100*time.Millisecond, func() bool {
			p.host, err = inspect(container, `{{(index .NetworkSettings.Networks "systemd-bench").IPAddress}}`)
			return err == nil && p.host != ""
		})
		if slow != nil {
			return nil, errors.Join(slow, err, p.journals(ctx))
		}
	}
	return all, nil
}
