package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	podmanfile "github.com/containers/podman/v4/pkg/systemd/parser"
	podman "github.com/containers/podman/v4/pkg/systemd/quadlet"

	"github.com/zerolet/zerolet/quadlet"
)

// embed converts with the Quadlet of podman 4.9.5 that is linked in: for
// machines whose Podman has none or one that cannot read drop-ins.
func (c Config) embed(overrides []Override) []Result {
	names := c.resourceNames()
	results := make([]Result, len(overrides))
	for i, o := range overrides {
		if pos, ok := ofPod(o.File); ok {
			results[i].Diagnostics.Errorf(pos, "install Podman 5.3 or later, with its Quadlet",
				"the Quadlet 4.9.5 that is built in converts no pods")
			continue
		}
		service, err := convertContainer(o, c.spell, names, c.Manager == quadlet.User)
		if err != nil {
			results[i].Diagnostics = refused(o.File, err.Error())
			continue
		}
		results[i].Service = service
	}
	return results
}

// ofPod is where a file is about a pod, or says that its container is in one. It
// knows .kube files, but not how they are scaled: nobody has tried so old a Podman.
func ofPod(f *quadlet.File) (quadlet.Pos, bool) {
	e, ok := f.Last("Container", "Pod")
	return cmp.Or(e.Pos, f.UnitPos()), f.Kind() != "Container" || ok && e.Value != ""
}

// spell has a file say in the words of Podman 4.9.5 what its Quadlet cannot: it knows
// no Network=NAME.container, and gives an instance a name that Podman refuses.
func (c Config) spell(f *quadlet.File) {
	for i, e := range f.Entries {
		if e.Section != "Container" || e.Key != "Network" || !strings.HasSuffix(e.Value, ".container") {
			continue
		}
		owner, found := c.Sources.Find(e.Value)
		if !found {
			continue
		}
		if name, known := owner.ContainerName(); known {
			f.Entries[i].Value = "container:" + name
		}
	}
	if name, ok := f.Last("Container", "ContainerName"); f.Template() != "" && (!ok || name.Value == "") {
		f.Entries = append(f.Entries, quadlet.Entry{Section: "Container", Key: "ContainerName", Value: "systemd-%p_%i"})
	}
}

func convertContainer(o Override, spell func(*quadlet.File), names map[string]string, user bool) (service *quadlet.File, err error) {
	// A Mount= with an empty source crashes podman/v4 (quadlet.go,
	// handleStorageSource): one file must not take the others down.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("podman/v4 cannot convert this file: %v", r)
		}
	}()
	o.Newer = nil
	dropin, _ := quadlet.Parse(o.File.Path, o.text())
	merged := *o.File
	merged.Entries = slices.Clone(merged.Entries)
	merged.Merge(dropin)
	spell(&merged)
	source, err := canonical(&merged)
	if err != nil {
		return nil, err
	}
	converted, err := podman.ConvertContainer(source, names, user)
	if err != nil {
		return nil, err
	}
	text, err := converted.ToString()
	if err != nil {
		return nil, err
	}
	service, _ = quadlet.Parse(converted.Filename, []byte(text))
	return service, nil
}

// canonical gives a file to podman's parser as our reader understood it. The
// parser hangs on some raw texts (a continuation whose first line is
// indented, "\" before an empty line), never on this one.
func canonical(f *quadlet.File) (*podmanfile.UnitFile, error) {
	u := podmanfile.NewUnitFile()
	u.Path, u.Filename = f.Path, f.Name()
	return u, u.Parse(string(f.Text()))
}

// resourceNames are the Podman names behind the .image, .network and .volume
// files that a .container may refer to. Images come first, since a volume
// refers to them. A file that does not convert has no name, and a container
// that refers to it is refused with that.
func (c Config) resourceNames() map[string]string {
	names := make(map[string]string)
	convert := map[string]func(*podmanfile.UnitFile) (string, error){
		".image": func(u *podmanfile.UnitFile) (string, error) {
			_, name, err := podman.ConvertImage(u)
			return name, err
		},
		".network": func(u *podmanfile.UnitFile) (string, error) {
			_, name, err := podman.ConvertNetwork(u, u.Filename)
			return name, err
		},
		".volume": func(u *podmanfile.UnitFile) (string, error) {
			_, name, err := podman.ConvertVolume(u, u.Filename, names)
			return name, err
		},
	}
	for _, ext := range []string{".image", ".network", ".volume"} {
		for _, path := range c.Sources.Units(ext) {
			f, _ := c.Sources.Load(path)
			u, err := canonical(f)
			if err != nil {
				continue
			}
			if name, err := convert[ext](u); err == nil && name != "" {
				names[f.Name()] = name
			}
		}
	}
	return names
}
