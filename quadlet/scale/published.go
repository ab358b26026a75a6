package scale

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// Published is a PublishPort= value that stays Podman's, and where the file
// says so.
type Published struct {
	Value string
	Pos   quadlet.Pos
}

// readPorts settles which ports are scaled and which stay published by Podman.
// With Listen= only what it names is scaled, unless all that is on networks.
func (s *Spec) readPorts(ds *quadlet.Diagnostics) {
	named := slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.HostNetwork == "" })
	for _, e := range s.File.All(s.File.Kind(), "PublishPort") {
		ports, value, err := s.parse(e.Value, ParsePublish)
		switch {
		case named && err != nil:
			s.readUnknown(e, ds)
		case named:
			for _, value := range s.unscaled(value, ports) {
				s.Published = append(s.Published, Published{value, e.Pos})
			}
		case err != nil:
			ds.Value(e, err)
		default:
			s.scale(e, ports)
		}
	}
}

// parse reads a value with the specifiers of an instance replaced. An error is where
// they stand in the file.
func (s *Spec) parse(value string, parse func(string) ([]Publish, error)) (ports []Publish, text string, err error) {
	text, at := s.File.ExpandInstance(value)
	ports, err = parse(text)
	var ve *quadlet.ValueError
	if errors.As(err, &ve) {
		err = &quadlet.ValueError{Offset: at(ve.Offset), Message: ve.Message, Hint: ve.Hint}
	}
	return ports, text, err
}

func (s *Spec) scale(e quadlet.Entry, ports []Publish) {
	for _, p := range ports {
		for _, one := range p.Each() {
			s.Listen = append(s.Listen, Listener{Publish: one, Pos: e.Pos})
		}
	}
}

// unscaled is what of one PublishPort= value Listen= does not name.
func (s *Spec) unscaled(value string, ports []Publish) []string {
	var kept []string
	whole := true
	for _, p := range ports {
		for _, one := range p.Each() {
			if s.listensFor(one.ContainerPort, one.Protocol) {
				whole = false
				continue
			}
			kept = append(kept, one.published())
		}
	}
	if whole {
		return []string{value}
	}
	return kept
}

// readUnknown settles what becomes of a port of which nobody knows beforehand
// where it is published: the host's side has a variable, or no port. So it is
// with sctp, which is nothing to us. What else may be wrong is Podman's to judge.
func (s *Spec) readUnknown(e quadlet.Entry, ds *quadlet.Diagnostics) {
	host, ports, err := parseContainerSide(e.Value)
	if err != nil && strings.ContainsAny(e.Value[len(host):], "$%") {
		ds.Value(e, err)
		return
	}
	keep := func(value string) { s.Published = append(s.Published, Published{value, e.Pos}) }
	if s.named(ports) == 0 {
		keep(e.Value)
		return
	}
	for _, p := range ports {
		switch s.named([]Publish{p}) {
		case 0:
			port, _, _ := strings.Cut(e.Value[len(host):], "/")
			keep(host + port + "/" + p.Protocol)
		case p.Count:
		default:
			ds.Errorf(e.Pos, "write one line for each port",
				"Listen= names ports of this range, and nobody knows beforehand where Podman publishes the others")
			return
		}
	}
}

// named counts the ports that Listen= names.
func (s *Spec) named(ports []Publish) int {
	n := 0
	for _, p := range ports {
		for _, one := range p.Each() {
			if s.listensFor(one.ContainerPort, one.Protocol) {
				n++
			}
		}
	}
	return n
}

func (s *Spec) listensFor(port uint16, protocol string) bool {
	return slices.ContainsFunc(s.Listen, func(l Listener) bool {
		return l.HostNetwork == "" && l.ContainerPort == port && l.Protocol == protocol
	})
}

// published spells one port as PublishPort= takes it.
func (p Publish) published() string {
	text := fmt.Sprintf("%d:%d/%s", p.HostPort, p.ContainerPort, p.Protocol)
	switch {
	case p.Host.Is6():
		return fmt.Sprintf("[%s]:%s", p.Host, text)
	case p.Host.IsValid():
		return fmt.Sprintf("%s:%s", p.Host, text)
	}
	return text
}
