package service

import (
	"context"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
)

// The containers of a pod have units of their own, and nothing else of a service:
// what they do is the pod's.

// isMember reports whether the generator wrote the unit for a container in a pod.
func (s *Service) isMember() bool {
	return ofContainer(s.Container) && wire.IsMember(s.Container["Documentation"])
}

// member is the container of the pod with a unit, nil if it has none.
func (s *Service) member(unit string) *Service {
	i := slices.IndexFunc(s.Members, func(m *Service) bool { return wire.Container.Of(m.Name) == unit })
	if i < 0 {
		return nil
	}
	return s.Members[i]
}

// HasMember reports whether a unit is that of a container of the pod.
func (s *Service) HasMember(unit string) bool { return s.member(unit) != nil }

// failedMember is a container of the pod that has failed and is not back.
func (s *Service) failedMember() *Service {
	if !s.Container.Is("active", "reloading") {
		return nil // with the pod
	}
	i := slices.IndexFunc(s.Members, func(m *Service) bool { return m.State() == Failing })
	if i < 0 {
		return nil
	}
	return s.Members[i]
}

// hindered reports whether a container of the pod has failed again since the proxy
// began, and the app was not reached. Before that, others may be the app.
func (s *Service) hindered() bool {
	m := s.failedMember()
	return m != nil && !s.Reached() && m.Broke.After(s.Proxy.Time("InactiveExitTimestamp"))
}

// gather puts the containers of pods with their pods, and takes them from among
// the services. Those of a single one that was asked for are not among them yet.
func (l *look) gather(ctx context.Context, found []*Service) ([]*Service, error) {
	known := make(map[string]*Service)
	for _, s := range found {
		known[s.Name] = s
	}
	var bound []*Service
	for _, s := range found {
		for _, unit := range strings.Fields(s.Container["BoundBy"]) {
			if name, ok := wire.Container.Name(unit); ok && known[name] == nil {
				known[name] = &Service{Name: name}
				bound = append(bound, known[name])
			}
		}
	}
	if err := l.fill(ctx, bound, Closely); err != nil {
		return nil, err
	}
	var services []*Service
	for _, s := range slices.Concat(found, bound) {
		pods := strings.Fields(s.Container["BindsTo"])
		i := slices.IndexFunc(pods, func(unit string) bool { return known[strings.TrimSuffix(unit, ".service")] != nil })
		switch {
		case s.isMember() && i >= 0:
			pod := known[strings.TrimSuffix(pods[i], ".service")]
			pod.Members = append(pod.Members, s)
		case s.isMember(), slices.Contains(bound, s):
		default:
			services = append(services, s)
		}
	}
	return services, nil
}

// adopt sees whether the proxy is abandoned, and with it the containers of a pod.
func (l *look) adopt(ctx context.Context, s *Service) error {
	var members []string
	s.Abandoned, members = l.abandoned(s)
	for _, unit := range members {
		if name, ok := wire.Container.Name(unit); ok && !s.HasMember(unit) {
			s.Members = append(s.Members, &Service{Name: name})
		}
	}
	if !s.Abandoned {
		return nil
	}
	return l.fill(ctx, s.Members, Closely)
}
