package generator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// Use is what a container uses, which Podman has to keep while there is none, as
// the file writes it, with systemd's specifiers.
type Use struct {
	Unit    string // whose container it is, without ".service"; of several "#2" and so on at the end
	Image   string
	Rootfs  bool // Image is a directory
	Volumes []string
	Update  AutoUpdate
}

// AutoUpdate is what a container says of updates (podman-auto-update(1)).
type AutoUpdate struct {
	Policy   string // "registry", "local" or none
	AuthFile string
}

// findImages notes the images that .image and .build files name for others.
func (p *Plan) findImages(files []*quadlet.File) {
	images := make(map[string]string)
	for _, f := range files {
		if f.Kind() == "Image" || f.Kind() == "Build" {
			images[f.Name()] = imageOf(f)
		}
	}
	for _, e := range p.Endpoints {
		e.images = images
	}
}

// imageOf is the image that a .image or .build file has made, "" where only
// systemd knows its name (podman-systemd.unit(5)).
func imageOf(f *quadlet.File) string {
	name, ok := f.Last("Image", "ImageTag")
	if !ok || name.Value == "" {
		name, _ = f.Last("Image", "Image")
	}
	if tags := f.All("Build", "ImageTag"); len(tags) > 0 {
		name = tags[0] // of several Quadlet takes the first
	}
	if strings.ContainsAny(name.Value, "%$") {
		return ""
	}
	return name.Value
}

// Uses are those of the container, or of each of the pod's, which has the pod's
// volumes, too.
func (e *Endpoint) Uses() []Use {
	switch {
	case e.isKube():
		return e.played()
	case !e.isPod():
		return []Use{e.use(e.Spec.File, e.Spec.Unit, e.Service)}
	}
	var uses []Use
	for _, m := range e.Members {
		uses = append(uses, e.use(m.File, m.File.Unit(), e.Service, m.Service))
	}
	return uses
}

// played are the uses of what a .kube file plays. One unit is for all of them.
func (e *Endpoint) played() []Use {
	var uses []Use
	for i, c := range e.Spec.Played {
		u := Use{Unit: e.Spec.Unit, Image: c.Image, Volumes: e.Spec.Claims}
		if i > 0 {
			u.Unit += fmt.Sprintf("#%d", i+1)
		}
		for _, entry := range e.Spec.File.All("Kube", "AutoUpdate") { // for all, or NAME/POLICY (podman-systemd.unit(5))
			name, policy, one := strings.Cut(entry.Value, "/")
			if !one {
				u.Update.label(autoUpdate + "=" + name)
			} else if name == c.Name {
				u.Update.label(autoUpdate + "=" + policy)
			}
		}
		uses = append(uses, u)
	}
	return uses
}

func (e *Endpoint) use(f *quadlet.File, unit string, services ...*quadlet.File) Use {
	image, _ := f.Last("Container", "Image")
	u := Use{Unit: unit, Image: image.Value}
	if named, ok := e.images[image.Value]; ok {
		u.Image = named
	}
	if rootfs, ok := f.Last("Container", "Rootfs"); ok && image.Value == "" {
		u.Image, u.Rootfs = rootfs.Value, true
	}
	for flag, value := range options(commandsOf(services...)) {
		name := ""
		switch flag {
		case "-v", "--volume":
			name, _, _ = strings.Cut(value, ":")
		case "--mount":
			name = mountedVolume(value)
		case "-l", "--label":
			u.Update.label(value)
		}
		if name != "" && !strings.ContainsAny(name[:1], "/.") && !slices.Contains(u.Volumes, name) {
			u.Volumes = append(u.Volumes, name)
		}
	}
	return u
}

// autoUpdate is the label of a container (podman-auto-update(1)).
const autoUpdate = "io.containers.autoupdate"

// label notes what a label says.
func (a *AutoUpdate) label(label string) {
	switch key, value, _ := strings.Cut(label, "="); {
	case key == autoUpdate+".authfile":
		a.AuthFile = value
	case key != autoUpdate:
	case value == "registry", value == "image": // as Podman called it at first
		a.Policy = "registry"
	case value == "local":
		a.Policy = value
	default:
		a.Policy = ""
	}
}

// mountedVolume is the name of the volume of --mount (podman-run(1)).
func mountedVolume(value string) string {
	kind, name := "", ""
	for field := range strings.SplitSeq(value, ",") {
		switch key, v, _ := strings.Cut(field, "="); key {
		case "type":
			kind = v
		case "source", "src":
			name = v
		}
	}
	if kind != "volume" {
		return ""
	}
	return name
}

// keeping has zerolet renew what Podman keeps for a container whenever its unit has
// stopped: with the image that the next one gets, and with volumes that are there.
func (e *Endpoint) keeping(u Unit, l Layout) Unit {
	for _, use := range e.Uses() {
		unit, _, _ := strings.Cut(use.Unit, "#")
		if wire.Container.Of(unit) != u.Name || use.Image == "" {
			continue
		}
		words := []string{"-" + word(dollars(literal(l.Zerolet))), "keep", scope(e.manager)}
		if use.Rootfs {
			words = append(words, "--rootfs")
		}
		words = append(words, "--", word(dollars(literal(use.Unit))))
		for _, name := range append([]string{use.Image}, use.Volumes...) {
			if e.isKube() {
				name = dollars(literal(name)) // systemd has not read it
			}
			words = append(words, word(name))
		}
		set(&u, "Service", "ExecStopPost", strings.Join(words, " "))
	}
	return u
}

// dollars keeps systemd from taking a part of a word for a variable. In what the
// file names it may be one, as it is for Podman.
func dollars(value string) string { return strings.ReplaceAll(value, "$", "$$") }
