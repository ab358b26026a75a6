package scale

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/zerolet/zerolet/quadlet"
)

// readKube looks at what a .kube file plays: one pod in a network of its own, as
// far as that can be seen before Podman plays it (podman-kube-play(1)).
func (s *Spec) readKube(ds *quadlet.Diagnostics) {
	if where(s.File) != InKube {
		return
	}
	s.checkKubePorts(ds)
	var pods []kubePod
	for _, e := range s.File.All("Kube", "Yaml") {
		path := s.search.Expand(e.Value)
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(s.File.Path), path) // as Quadlet has it
		}
		pods = append(pods, readPods(e, path, ds)...)
	}
	for i, p := range pods {
		if i > 0 {
			ds.Errorf(p.pos, "write a .kube file for each pod", "of several pods nobody knows which has the port: the first is at %s", pods[0].pos)
		}
		s.checkKubePod(p, ds)
		s.Pods = append(s.Pods, p.name)
		s.noteUse(p.spec)
	}
}

// noteUse notes what Podman has to keep while nothing is played. The volume of a
// claim has its name (podman-kube-play(1)).
func (s *Spec) noteUse(pod kubeSpec) {
	for _, c := range slices.Concat(pod.Containers, pod.InitContainers) {
		s.Played = append(s.Played, c.Played)
	}
	for _, v := range pod.Volumes {
		if v.Claim.Name != "" {
			s.Claims = append(s.Claims, v.Claim.Name)
		}
	}
}

// checkKubePorts wants the ports in the .kube file: those of the YAML file are
// published by Podman while the pod runs, and by nobody while it sleeps.
func (s *Spec) checkKubePorts(ds *quadlet.Diagnostics) {
	for _, l := range s.Listen {
		if l.ContainerPath != "" {
			ds.Errorf(l.Pos, "lead to a port", "the unix socket of an app in a .kube file cannot be known for its own: Podman keeps its containers out of the cgroup of the unit")
		}
	}
	if s.Network == Host {
		for _, e := range s.File.All("Kube", "Network") {
			ds.Errorf(e.Pos, ownNetwork, "a pod in the network of the host cannot be scaled: Podman keeps its containers out of the cgroup of the unit")
		}
	}
}

// kubePod is a pod in a YAML file, or the template of one.
type kubePod struct {
	pos  quadlet.Pos
	kind string
	name string
	spec kubeSpec
	file string
}

type kubeSpec struct {
	HostNetwork    yaml.Node `yaml:"hostNetwork"`
	Containers     []kubeContainer
	InitContainers []kubeContainer `yaml:"initContainers"`
	Volumes        []struct {
		Claim struct {
			Name string `yaml:"claimName"`
		} `yaml:"persistentVolumeClaim"`
	}
}

// Played is a container in a YAML file.
type Played struct {
	Name  string
	Image string
}

type kubeContainer struct {
	Played `yaml:",inline"`
	Ports  []struct {
		ContainerPort uint16    `yaml:"containerPort"`
		HostPort      yaml.Node `yaml:"hostPort"`
	}
}

// readPods finds them. What cannot be read is left to Podman.
func readPods(e quadlet.Entry, path string, ds *quadlet.Diagnostics) []kubePod {
	text, err := quadlet.ReadNamed(e.Pos.File, path)
	if err != nil {
		ds.Warnf(e.Pos, "", "nobody has looked whether this can be scaled: %v", err)
		return nil
	}
	var pods []kubePod
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return pods
		case err != nil:
			ds.Errorf(quadlet.Pos{File: path}, "podman-kube-play(1) tells what it plays", "%v", err)
			return pods
		}
		var object struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     struct {
				kubeSpec `yaml:",inline"`
				Template struct{ Spec kubeSpec }
			}
		}
		if err := document.Decode(&object); err != nil {
			ds.Errorf(quadlet.Pos{File: path}, "podman-kube-play(1) tells what it plays", "%v", err)
			return pods
		}
		pod := kubePod{pos: quadlet.Pos{File: path, Line: firstLine(&document), Col: 1}, kind: object.Kind, file: path}
		switch object.Kind {
		case "Pod":
			pod.name, pod.spec = object.Metadata.Name, object.Spec.kubeSpec
		case "Deployment", "DaemonSet", "Job": // of which podman makes a pod (podman-kube-play(1))
			pod.name, pod.spec = object.Metadata.Name+"-pod", object.Spec.Template.Spec
		default: // a volume, a secret and the like
			continue
		}
		pods = append(pods, pod)
	}
}

func firstLine(document *yaml.Node) int {
	if len(document.Content) > 0 {
		return document.Content[0].Line
	}
	return document.Line
}

// checkKubePod refuses a pod that nobody finds, or that takes the ports itself.
func (s *Spec) checkKubePod(p kubePod, ds *quadlet.Diagnostics) {
	at := func(n yaml.Node) quadlet.Pos { return quadlet.Pos{File: p.file, Line: n.Line, Col: n.Column} }
	if p.kind == "Job" {
		ds.Errorf(p.pos, "leave the [ScaleToZero] section out: a job runs when it is started, and uses nothing afterwards",
			"a pod that ends by itself cannot be scaled")
	}
	if yes, err := ParseBool(p.spec.HostNetwork.Value); err == nil && yes {
		ds.Errorf(at(p.spec.HostNetwork), "leave it out", "a pod in the network of the host cannot be scaled: Podman keeps its containers out of the cgroup of the unit")
	}
	for _, c := range p.spec.Containers {
		for _, port := range c.Ports {
			host, err := strconv.ParseUint(port.HostPort.Value, 10, 16)
			if err != nil || host == 0 {
				continue
			}
			if slices.ContainsFunc(s.Listen, func(l Listener) bool {
				return l.ContainerPort == port.ContainerPort || l.HostPort == uint16(host)
			}) {
				ds.Errorf(at(port.HostPort), "leave it out: the .kube file has the port", "Podman would publish port %d, too, while the pod runs", host)
			} else {
				ds.Warnf(at(port.HostPort), "write PublishPort= in the .kube file instead",
					"port %d stays published by Podman and does not count as use", host)
			}
		}
	}
}
