package knative

import (
	"bufio"
	"bytes"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/quadlet"
)

// environment exports Environment=. A later assignment of a variable takes the
// place of an earlier one.
func (x *exporter) environment(e quadlet.Entry) {
	for _, word := range x.arguments(e) {
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			x.lost(e, "write its value", "%s gets its value from this machine", name)
			continue
		}
		if x.variable(e, name, value) {
			x.setVariable(envVar{Name: name, Value: literal(value)})
		}
	}
}

func (x *exporter) setVariable(v envVar) {
	if i := slices.IndexFunc(x.container.Env, func(o envVar) bool { return o.Name == v.Name }); i >= 0 {
		x.container.Env[i] = v
		return
	}
	x.container.Env = append(x.container.Env, v)
}

// variable reports whether a pod can have a variable of this name. Some are
// Knative's own (reservedEnvVars in pkg/apis/serving/k8s_validation.go).
func (x *exporter) variable(e quadlet.Entry, name, value string) bool {
	switch {
	case name == "PORT":
		if ports := x.container.Ports; len(ports) == 0 || value != strconv.Itoa(int(ports[0].ContainerPort)) {
			x.lost(e, "publish the port that the app takes from it", "PORT is set by Knative, to the port of the container")
		}
		return false
	case slices.Contains([]string{"K_SERVICE", "K_CONFIGURATION", "K_REVISION"}, name):
		x.lost(e, "rename it", "%s is set by Knative", name)
		return false
	case !isEnvName(name):
		x.lost(e, "use letters, digits and _", "Kubernetes takes no variable of the name %q", name)
		return false
	}
	return true
}

// maxData is how much a ConfigMap holds (MaxSecretSize in k8s.io/api/core/v1).
const maxData = 1 << 20

// environmentFile exports a file as a ConfigMap.
func (x *exporter) environmentFile(e quadlet.Entry) {
	for _, path := range x.arguments(e) {
		name := unique(label(x.service.Metadata.Name+"-env"), func(name string) bool {
			return slices.ContainsFunc(x.container.EnvFrom, func(f envFrom) bool { return f.ConfigMapRef.Name == name })
		})
		x.container.EnvFrom = append(x.container.EnvFrom, envFrom{reference{name}})
		data, ok := x.readEnvironment(e, path, name)
		if !ok {
			continue
		}
		x.configMaps = append(x.configMaps, configMap{"v1", "ConfigMap", metadata{Name: name}, data})
		x.Diagnostics.Notef(e.Pos, "make it a Secret, and configMapRef a secretRef, if there are passwords in it",
			"%s becomes the ConfigMap %s, with the values in the output", path, name)
	}
}

// readEnvironment reads a file as podman's --env-file does (ParseFile in
// Podman's pkg/env/env.go).
func (x *exporter) readEnvironment(e quadlet.Entry, path, name string) (map[string]string, bool) {
	hint := "make it from the file: kubectl create configmap " + name + " --from-env-file=" + path
	if strings.HasPrefix(path, "%") || strings.Contains(path, "${") {
		x.lost(e, hint, "%s is not read: the ConfigMap %s is missing", path, name)
		return nil, false
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(x.file.Path), path)
	}
	text, err := quadlet.ReadNamed(e.Pos.File, path)
	switch {
	case err != nil:
		x.lost(e, hint, "cannot read %s: %v: the ConfigMap %s is missing", path, err, name)
		return nil, false
	case len(text) > maxData:
		x.lost(e, "a ConfigMap holds 1 MiB", "%s is too large: the ConfigMap %s is missing", path, name)
		return nil, false
	}
	data := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxData+1)
	for lines.Scan() {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		variable, value, ok := strings.Cut(line, "=")
		switch {
		case !ok:
			x.lost(e, "write its value", "%s of %s gets its value from this machine", variable, path)
		case !isDataKey(variable):
			x.lost(e, "use letters, digits and _", "a ConfigMap takes no variable of the name %q", variable)
		case x.variable(e, variable, value):
			data[variable] = value
		}
	}
	return data, true
}

// secret exports Secret=NAME[,OPTION...], as parseSecrets in Podman's
// pkg/specgenutil/specgen.go reads it. The value is not exported: the Secret
// has to be made, with the podman secret under its own name.
func (x *exporter) secret(e quadlet.Entry) {
	for _, word := range x.arguments(e) {
		x.oneSecret(e, word)
	}
}

func (x *exporter) oneSecret(e quadlet.Entry, word string) {
	options := make(map[string]string)
	for i, part := range strings.Split(word, ",") {
		option, value, ok := strings.Cut(part, "=")
		if !ok && i == 0 {
			option, value = "source", part
		}
		options[strings.ToLower(option)] = value
	}
	source := options["source"]
	name := label(source)
	if name == "" || !isDataKey(source) {
		x.lost(e, "rename the secret: a letter first, then letters, digits and -", "a Secret cannot be called %q: it is not exported", source)
		return
	}
	x.Diagnostics.Notef(e.Pos, "podman secret inspect --showsecret --format '{{.SecretData}}' "+source+" | head -c -1 | kubectl create secret generic "+name+" --from-file="+source+"=/dev/stdin",
		"the Secret %s has to be made: its value is not exported", name)
	if options["type"] == "env" {
		variable := options["target"]
		if variable == "" {
			variable = source
		}
		if x.variable(e, variable, "") {
			x.setVariable(envVar{Name: variable, ValueFrom: &envSource{secretKey{name, source}}})
		}
		return
	}
	x.mountSecret(e, source, name, options)
}

// mountSecret exports a secret that is a file: /run/secrets/NAME, or the
// target, which may be relative to /run/secrets.
func (x *exporter) mountSecret(e quadlet.Entry, source, name string, options map[string]string) {
	mode := int64(0o444)
	if text := options["mode"]; text != "" {
		n, err := strconv.ParseUint(text, 8, 9)
		if err != nil {
			x.lost(e, "write it like 0400", "Secret: mode %q is not exported", text)
		} else {
			mode = int64(n)
		}
	}
	for _, option := range []string{"uid", "gid"} {
		if owner := options[option]; owner != "" && owner != "0" {
			x.lost(e, "let its mode make it readable", "Secret: %s=%s is not exported, root owns the file", option, owner)
		}
	}
	path := options["target"]
	if path == "" {
		path = source
	}
	if !strings.HasPrefix(path, "/") {
		path = "/run/secrets/" + path
	}
	x.addMount(e, volume{Name: "secret-" + name, Secret: &secretVolume{name, mode}},
		volumeMount{MountPath: path, SubPath: source, ReadOnly: true})
}
