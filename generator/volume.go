package generator

import (
	"slices"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// volumes are the directories of the host in which the container has the sockets
// that the proxy connects to: the outermost that Podman mounts on the way to each.
// They are as the file writes them, with systemd's specifiers.
func (e *Endpoint) volumes() []string {
	var out []string
	for _, f := range e.Forwards {
		if dir := e.volume(f); dir != "" && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// volume is that of one socket, "" if it is not known: the file may name a
// volume that Podman keeps.
func (e *Endpoint) volume(f Forward) string {
	found, length := "", 0
	if f.Listen.ContainerPath == "" {
		return found
	}
	for _, source := range e.mounts() {
		dir := strings.TrimSuffix(e.search.Expand(source), "/") + "/"
		if strings.HasPrefix(f.Listen.ContainerFile, dir) && (found == "" || len(dir) < length) {
			found, length = source, len(dir)
		}
	}
	return found
}

// mounts are the sources of all mounts of the service's command line, into which
// Quadlet puts them however the file asks for them (podman-run(1)).
func (e *Endpoint) mounts() []string {
	var out []string
	for flag, value := range e.podmanOptions() {
		switch flag {
		case "-v", "--volume":
			source, _, _ := strings.Cut(value, ":")
			out = append(out, source)
		case "--mount":
			for field := range strings.SplitSeq(value, ",") {
				if key, source, _ := strings.Cut(field, "="); key == "source" || key == "src" {
					out = append(out, source)
				}
			}
		}
	}
	return out
}

// commands are the command lines that make the container, or the pod and its
// containers, which have the pod's mounts, too.
func (e *Endpoint) commands() []quadlet.Entry {
	services := []*quadlet.File{e.Service}
	for _, m := range e.Members {
		services = append(services, m.Service)
	}
	return commandsOf(services...)
}

func commandsOf(services ...*quadlet.File) []quadlet.Entry {
	var all []quadlet.Entry
	for _, service := range services {
		if service != nil {
			all = append(all, service.All("Service", "ExecStartPre")...)
			all = append(all, service.All("Service", "ExecStart")...)
		}
	}
	return all
}

// podmanOptions are the words of the command lines, see [options].
func (e *Endpoint) podmanOptions() func(yield func(flag, value string) bool) {
	return options(e.commands())
}

// options are the words of command lines, each with the value that it has if it is
// an option that takes one.
func options(commands []quadlet.Entry) func(yield func(flag, value string) bool) {
	return func(yield func(flag, value string) bool) {
		for _, command := range commands {
			args := append(command.Arguments(), "")
			for i, arg := range args[:len(args)-1] {
				flag, value, inline := strings.Cut(arg, "=")
				if !inline {
					value = args[i+1]
				}
				if !yield(flag, value) {
					return
				}
			}
		}
	}
}
