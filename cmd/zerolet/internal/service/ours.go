package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// What belongs to zerolet is known by what its generator wrote, and where that
// is gone by the proxy that still runs, never by a name: a foo-proxy.service
// beside a foo.service may be anybody's.

// Generated reports whether zerolet's generator wrote the unit.
func Generated(u systemd.Unit) bool {
	return fromGenerator(u) && wire.IsOurs(u["Documentation"])
}

// ofContainer reports whether the generator wrote the unit for a container
// itself: nothing else has to win over stock Quadlet's.
func ofContainer(u systemd.Unit) bool {
	return Generated(u) && filepath.Base(filepath.Dir(u["FragmentPath"])) == generator.Early.String()
}

// fromGenerator reports whether a generator wrote the unit, ours or another.
func fromGenerator(u systemd.Unit) bool {
	_, made := generatorDir(filepath.Dir(u["FragmentPath"]))
	return made
}

// generatorDir reports whether a directory is one of those that generators write
// to (systemd.unit(5), "Unit File Load Path").
func generatorDir(dir string) (generator.Priority, bool) {
	parent, base := filepath.Split(dir)
	for _, p := range []generator.Priority{generator.Normal, generator.Early} {
		if base == p.String() && filepath.Base(parent) == "systemd" {
			return p, true
		}
	}
	return 0, false
}

// abandoned reports whether the proxy runs without its unit's file. Of such a
// unit systemd knows nothing but the process: it has to be zerolet-proxy, at
// work for this very container. It tells which are the containers of a pod, too.
func (h Host) abandoned(s *Service) (is bool, members []string) {
	if s.Proxy.Found() || !s.Proxy.Is("active", "activating", "deactivating", "reloading") {
		return false, nil
	}
	process := filepath.Join("/proc", s.Proxy["MainPID"])
	program, err := os.Readlink(filepath.Join(process, "exe"))
	// An upgrade replaces the program; proc_pid_exe(5).
	if err != nil || strings.TrimSuffix(program, " (deleted)") != h.Proxy {
		return false, nil
	}
	args, err := os.ReadFile(filepath.Join(process, "cmdline"))
	words := strings.Split(string(args), "\x00")
	if err != nil || !wire.Serves(words, wire.Container.Of(s.Name)) {
		return false, nil
	}
	return true, wire.Members(words)
}

// Owns reports whether one of the units of the service is zerolet's to stop. An
// abandoned proxy's are those that have no file either, and the container's if
// stock Quadlet has taken it over.
func (s *Service) Owns(u systemd.Unit) bool {
	return Generated(u) || s.Abandoned && (!u.Found() || stockMade(u))
}

// stockMade reports whether stock Quadlet wrote the unit.
func stockMade(u systemd.Unit) bool {
	files := []string{".container", ".pod", ".kube"}
	return fromGenerator(u) && !Generated(u) && slices.Contains(files, filepath.Ext(u["SourcePath"]))
}

// ours reports whether the service is zerolet's.
func (s *Service) ours() bool {
	return Generated(s.Socket) || Generated(s.Proxy) || s.Abandoned || s.Refused() || s.Dependency()
}

// disown forgets the units of such names that are somebody else's, unless they
// stand in for one of ours, which the generator leaves to the administrator.
func (s *Service) disown() {
	if Generated(s.Socket) || Generated(s.Proxy) {
		return
	}
	for _, u := range s.parts() {
		if !s.Owns(*u) {
			*u = nil
		}
	}
}

// lost are units that run, or have failed, without a file where nothing tells whose
// they were.
func (s *Service) lost() []string {
	var names []string
	for _, unit := range []systemd.Unit{s.Socket, s.Proxy} {
		if unit["Id"] != "" && !unit.Found() && unit.Is("active") && !s.Abandoned {
			names = append(names, unit["Id"])
		}
	}
	if timer := s.Timer; !timer.Found() && timer.Is("failed") && !s.Abandoned && !Generated(s.Socket) {
		names = append(names, timer["Id"])
	}
	return names
}
