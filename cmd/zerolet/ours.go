package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
)

// What belongs to zerolet is known by what its generator wrote, and where that
// is gone by the proxy that still runs, never by a name: a foo-proxy.service
// beside a foo.service may be anybody's.

// generated reports whether zerolet's generator wrote the unit.
func generated(u systemd.Unit) bool {
	return fromGenerator(u) && wire.IsOurs(u["Documentation"])
}

// ofContainer reports whether the generator wrote the unit for a container
// itself: nothing else has to win over stock Quadlet's.
func ofContainer(u systemd.Unit) bool {
	return generated(u) && filepath.Base(filepath.Dir(u["FragmentPath"])) == generator.Early.String()
}

// fromGenerator reports whether a generator wrote the unit, ours or another
// (systemd.unit(5), "Unit File Load Path").
func fromGenerator(u systemd.Unit) bool {
	dir, of := filepath.Split(filepath.Dir(u["FragmentPath"]))
	return filepath.Base(dir) == "systemd" && (of == generator.Normal.String() || of == generator.Early.String())
}

// abandoned reports whether the proxy runs without its unit's file. Of such a
// unit systemd knows nothing but the process: it has to be zerolet-proxy, at
// work for this very container.
func (c *call) abandoned(s *service) bool {
	if s.proxy.Found() || !s.proxy.Is("active", "activating", "deactivating", "reloading") {
		return false
	}
	process := filepath.Join("/proc", s.proxy["MainPID"])
	program, err := os.Readlink(filepath.Join(process, "exe"))
	// An upgrade replaces the program; proc_pid_exe(5).
	if err != nil || strings.TrimSuffix(program, " (deleted)") != c.layout().Proxy {
		return false
	}
	args, err := os.ReadFile(filepath.Join(process, "cmdline"))
	return err == nil && wire.Serves(strings.Split(string(args), "\x00"), wire.Container.Of(s.name))
}

// owns reports whether one of the units of the service is zerolet's to stop. An
// abandoned proxy's are those that have no file either, and the container's if
// stock Quadlet has taken it over.
func (s *service) owns(u systemd.Unit) bool {
	stock := fromGenerator(u) && strings.HasSuffix(u["SourcePath"], ".container")
	return generated(u) || s.abandoned && (!u.Found() || stock)
}

// ours reports whether the service is zerolet's.
func (s *service) ours() bool {
	return generated(s.socket) || generated(s.proxy) || s.abandoned || s.refused() || s.dependency()
}

// disown forgets the units of such names that are somebody else's, unless they
// stand in for one of ours, which the generator leaves to the administrator.
func (s *service) disown() {
	if generated(s.socket) || generated(s.proxy) {
		return
	}
	for _, u := range []*systemd.Unit{&s.socket, &s.proxy, &s.container, &s.target, &s.opener, &s.entrySocket, &s.entry} {
		if !s.owns(*u) {
			*u = nil
		}
	}
}

// lost are units that run without a file where nothing tells whose they were.
func (s *service) lost() []string {
	var names []string
	for _, unit := range []systemd.Unit{s.socket, s.proxy} {
		if unit["Id"] != "" && !unit.Found() && unit.Is("active") && !s.abandoned {
			names = append(names, unit["Id"])
		}
	}
	return names
}
