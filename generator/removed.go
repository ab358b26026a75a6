package generator

import (
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// removed is the name of the units that clear a manager when zerolet itself is
// gone.
const removed = "zerolet-removed"

// cleanup is a script that gets the path of a program of zerolet's, the
// scope for systemctl, and zerolet's units. Who installs by hand takes the program
// away for a moment. The generator being gone, the units are no more after the
// reload, and sockets.target upholds no socket. What sleeps is not loaded then,
// which is no failure. What fails to stop, systemd tells. In the end Podman may prune
// again, and nobody knows of updates that failed.
const cleanup = `for i in 1 2 3 4 5; do [ -e "$0" ] && exit; sleep 1; done; ` +
	`systemctl "$1" daemon-reload; systemctl "$@" 2>/dev/null || :; ` +
	`set -- $(podman pod ls --quiet --filter=label=` + wire.KeepersLabel + `); [ $# = 0 ] || podman pod rm --force "$@"; rm -rf `

// checkRemoved looks for a file that takes the name.
func (p *Plan) checkRemoved(files []*quadlet.File) {
	for _, f := range files {
		if f.Unit() == removed {
			p.nameTaken = true
			p.Diagnostics.Warnf(quadlet.Pos{File: f.Path}, "rename the file",
				"it has the name of a unit of zerolet's own: what runs is not stopped when zerolet is removed")
		}
	}
}

// Removal are the units that stop all others once zerolet has been removed.
// Nobody else knows what is ours, and root's package scripts must not meddle
// in a user's manager: there a path unit looks after the program, in the
// system's manager the script starts the service.
func (p *Plan) Removal(l Layout, units []Unit) []Unit {
	names := p.own(units)
	if len(names) == 0 || p.nameTaken {
		return nil
	}
	if p.Manager == quadlet.User {
		names = append(names, removed+".path")
	}
	left := wire.SystemState + ` /run/` + wire.Starts + ` /run/` + wire.Results + ` /var/cache/` + wire.Wakes + ` /var/cache/private/` + wire.Wakes
	if p.Manager == quadlet.User {
		left = `"$HOME/` + wire.UserState + `" "$XDG_RUNTIME_DIR/` + wire.Starts + `" "$XDG_RUNTIME_DIR/` + wire.Results +
			`" "${XDG_CACHE_HOME:-$HOME/.cache}/` + wire.Wakes + `"`
	}
	args := []string{":/bin/sh", "-c", word(literal(cleanup + left)), word(literal(l.Proxy)), scope(p.Manager), "stop", "--"}
	for _, name := range names {
		args = append(args, word(literal(name)))
	}
	out := []Unit{{Name: removed + ".service", Sections: []*unit.UnitSection{
		section("Unit",
			"Description", "Cleanup of zerolet, if it has been removed",
			"StartLimitIntervalSec", "0"), // an upgrade starts it a few times
		section("Service", "Type", "oneshot", "ExecStart", strings.Join(args, " ")),
	}}}
	if p.Manager == quadlet.System {
		return out
	}
	return append(out,
		Unit{Name: removed + ".path", Sections: []*unit.UnitSection{
			section("Unit", "Description", "Watch for the removal of zerolet"),
			section("Path", "PathChanged", literal(l.Proxy)),
		}},
		Unit{Name: filepath.Join("paths.target.d", "50-zerolet.conf"), Sections: []*unit.UnitSection{
			section("Unit", "Upholds", removed+".path"), // as autoStart does
		}})
}

// own are the names of the units that systemd loads from what we write: a file
// of the administrator's wins over one of ours in Normal.
func (p *Plan) own(units []Unit) []string {
	var names []string
	for _, u := range units {
		if u.Link != "" || filepath.Ext(u.Name) == ".conf" {
			continue
		}
		if exists, _ := p.AdminUnit(u.Name); !exists {
			names = append(names, u.Name)
		}
	}
	return names
}
