package scale

import (
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// PodOf is the line by which a container is a member of a pod. The value is the
// name of the pod's file: Quadlet takes no other.
func PodOf(f *quadlet.File) (quadlet.Entry, bool) {
	e, ok := f.Last("Container", "Pod")
	return e, ok && f.Kind() == "Container" && strings.HasSuffix(e.Value, ".pod")
}

// checkPod refuses what takes away from a pod by which it is found: the infra
// container, in whose network namespace all of its containers are
// (podman-pod-create(1)).
func (s *Spec) checkPod(ds *quadlet.Diagnostics) {
	if where(s.File) != InPod {
		return
	}
	for _, e := range s.File.All("Pod", "PodmanArgs") {
		args := e.Arguments()
		for i, arg := range args {
			option, value, valued := strings.Cut(arg, "=")
			if !valued && i+1 < len(args) {
				value = args[i+1]
			}
			switch option {
			case "--infra":
				if yes, err := ParseBool(value); valued && err == nil && !yes {
					ds.Errorf(e.Pos, "leave it out", "a pod without an infra container cannot be scaled: its containers share no network")
				}
			case "--share":
				if !sharesNetwork(value) {
					ds.Errorf(e.Pos, "leave it out, or add net", "a pod whose containers share no network cannot be scaled")
				}
			case "--infra-conmon-pidfile", "--pod-id-file":
				ds.Errorf(e.Pos, "leave it out", "%s in PodmanArgs= hides from Quadlet's unit where its pod is", option)
			}
		}
	}
	if e, ok := s.File.Last("Pod", "ExitPolicy"); ok && e.Value == "stop" {
		ds.Warnf(e.Pos, "leave it out: the pod sleeps when nobody uses it, and until then stays, whatever has ended",
			"ExitPolicy=stop is not used: a start that comes just then would be lost with the pod")
	}
}

// sharesNetwork reads the value of --share: a list, or what is added to the
// default, which has the network.
func sharesNetwork(value string) bool {
	if strings.HasPrefix(value, "+") {
		return true
	}
	for kind := range strings.SplitSeq(value, ",") {
		if kind == "net" {
			return true
		}
	}
	return false
}

// CheckMember refuses what a container in a scaled pod cannot have, or what keeps
// its processes from being known for the pod's.
func CheckMember(s *Spec, f *quadlet.File, ds *quadlet.Diagnostics) {
	pod := s.File.Name()
	for _, x := range f.Sections {
		if IsSection(x.Name) {
			ds.Errorf(x.Pos, "move it to "+pod+": a pod wakes and sleeps as a whole", "a container in a pod cannot be scaled by itself")
			break
		}
	}
	for _, key := range []string{"PublishPort", "Network"} {
		for _, e := range f.All("Container", key) {
			ds.Errorf(e.Pos, "move it to [Pod] of "+pod, "%s= is the pod's: its containers share one network", key)
		}
	}
	for _, e := range f.All("Container", "PodmanArgs") {
		for _, arg := range e.Arguments() {
			switch option := optionOf(arg); option {
			case "--network", "--net", "--publish", "-p", "--pod":
				ds.Errorf(e.Pos, "leave it out: [Pod] of "+pod+" has the network and the ports", "%s in PodmanArgs= is the pod's", option)
			}
		}
	}
	if base, instance, at := strings.Cut(f.Unit(), "@"); f.IsTemplate() || at && instance == "" {
		ds.Errorf(f.UnitPos(), "write a file for each container, such as "+base+"-1.container", "a template cannot be in a pod that is scaled")
	} else if !ValidUnit(f.Unit()) {
		ds.Errorf(f.UnitPos(), "use letters, digits and :-_. only", "%q is not the name of a systemd unit", f.Unit())
	}
	CheckCgroup(s, f, ds)
	s.checkFrozen(f, ds)
}
