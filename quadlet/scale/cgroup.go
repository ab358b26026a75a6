package scale

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// CheckCgroup refuses a container whose processes are not in its unit's cgroup:
// that is how they are told from others, by systemd and by the proxy, which
// would believe none. Quadlet's own mode is split; no-conmon and enabled make a
// cgroup elsewhere (podman-run(1), --cgroups). Of a pod that is found by its
// infra container alone, the others may be anywhere.
func CheckCgroup(s *Spec, f *quadlet.File, ds *quadlet.Diagnostics) {
	if s.Dependency() || s.Native || f != s.File && s.knownByInfra() {
		return
	}
	check := func(e quadlet.Entry, mode string) {
		if mode != "split" && mode != "disabled" {
			ds.Errorf(e.Pos, "leave it out: Quadlet sets split",
				"cgroups mode %q takes the container out of the cgroup of its unit, by which the proxy knows it", mode)
		}
	}
	if e, ok := f.Last("Container", "CgroupsMode"); ok && e.Value != "" {
		check(e, e.Value)
	}
	for _, e := range f.All("Container", "PodmanArgs") {
		args := e.Arguments()
		for i, arg := range args {
			option, mode, valued := strings.Cut(arg, "=")
			if option != "--cgroups" {
				continue
			}
			if !valued && i+1 < len(args) {
				mode = args[i+1]
			}
			check(e, mode)
		}
	}
}

// knownByInfra reports whether the way to the app leads through the network
// namespace of a pod alone.
func (s *Spec) knownByInfra() bool {
	return s.Network == Namespace && !slices.ContainsFunc(s.Listen, func(l Listener) bool { return l.ContainerPath != "" })
}
