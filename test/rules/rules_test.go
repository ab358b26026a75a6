// Package rules tests what the repository promises about itself.
package rules

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/zerolet/zerolet"

type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Standard   bool
	Imports    []string
}

func list(t *testing.T, dir string) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Imports", "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// rule is what a package may import besides the standard library, and why no more.
type rule struct {
	why     string
	imports []string
}

// rules are those of the programs. The data goes one way: quadlet, generator; the
// proxy stands by itself, and both know the wire.
func rules() map[string]rule {
	const (
		systemd  = "github.com/coreos/go-systemd/v22/"
		podman   = "github.com/containers/podman/v4/pkg/systemd/"
		sys      = "golang.org/x/sys/unix"
		quadlet  = module + "/quadlet"
		scale    = quadlet + "/scale"
		convert  = quadlet + "/convert"
		wire     = module + "/proxy/wire"
		internal = module + "/proxy/internal/"
		release  = module + "/cmd/internal/release"
		command  = module + "/cmd/zerolet/internal/"
	)
	return map[string]rule{
		"quadlet": {
			// It splits words as Quadlet does, and root reads with the rights of who
			// has made a file (setfsuid(2)).
			"only reads: it knows neither the section nor Podman's conversion",
			[]string{podman + "parser", sys},
		},
		"quadlet/scale": {
			// A row says what the proxy is told. What a .kube file plays is YAML.
			"means the same on every machine, whatever Podman it has",
			[]string{quadlet, wire, "go.yaml.in/yaml/v3"},
		},
		"quadlet/convert": {
			"runs Quadlet for files with overrides, whoever asks for them and why",
			[]string{quadlet, podman + "parser", podman + "quadlet"},
		},
		"generator": {
			"runs at each daemon-reload: it links nothing that runs later",
			[]string{quadlet, scale, convert, wire, systemd + "unit"},
		},
		"generator/suggest": {
			"asks the generator what becomes of files: it has no judgement of its own on what sleeps",
			[]string{quadlet, scale, module + "/generator", wire},
		},
		"proxy/wire": {
			"is what both sides of a wire know: nothing of either side, and no system call",
			nil,
		},
		"proxy/internal/sock": {
			"makes system calls for all others, and knows none of them",
			[]string{wire, sys},
		},
		"proxy/internal/report": {
			// It looks whether its last record has been read, and at nothing else.
			"tells systemd and the journal what it is given, and looks at nothing",
			[]string{wire, systemd + "daemon", systemd + "journal", sys},
		},
		"proxy/internal/head": {
			"reads bytes, and has none of its own",
			nil,
		},
		"proxy/internal/page": {
			"is text and times: it has no connection, and starts nothing",
			nil,
		},
		"proxy/internal/carry": {
			"is the hot path: what it calls is known, and none of it waits",
			[]string{internal + "sock", sys},
		},
		"proxy/internal/reach": {
			"runs with the rights to enter a container, partly in processes of its own: nothing of clients is there",
			[]string{wire, internal + "report", internal + "sock", sys},
		},
		"proxy/internal/watch": {
			"never has a client: it needs neither the way to the app nor what carries",
			[]string{wire, internal + "sock", internal + "report", sys},
		},
		"proxy/internal/proxytest": {
			"is for tests alone: it goes by the command line and by sockets, as systemd and clients do",
			[]string{wire, sys},
		},
		"proxy": {
			"does not know of files and units: what it needs of them is on its command line",
			[]string{wire, internal + "carry", internal + "head", internal + "page", internal + "reach", internal + "report", internal + "sock", internal + "watch", sys},
		},
		"cmd/zerolet": {
			"asks systemd and the journal by what is inside it, and the proxy by nothing but the wire",
			[]string{quadlet, scale, convert, module + "/generator", module + "/generator/suggest", wire, release, command + "service", command + "systemd", command + "podman", command + "knative", systemd + "journal", sys},
		},
		"cmd/zerolet/internal/service": {
			"sees what runs, of which a file says nothing",
			[]string{module + "/generator", wire, command + "systemd", sys},
		},
		"cmd/zerolet/internal/systemd": {
			"speaks to managers and to the journal; no other program links the bus",
			[]string{"github.com/godbus/dbus/v5"},
		},
		"cmd/zerolet/internal/podman": {
			"speaks to Podman, by its command alone; it knows no file and no unit",
			[]string{wire},
		},
		"cmd/zerolet/internal/knative": {
			"makes YAML of what a file says; what runs does not matter to it",
			[]string{quadlet, scale, "go.yaml.in/yaml/v3"},
		},
		"cmd/internal/release": {
			"is in all programs",
			nil,
		},
		"cmd/zerolet-generator": {
			"is thin",
			[]string{release, quadlet, scale, convert, module + "/generator", systemd + "journal"},
		},
		"cmd/zerolet-proxy": {
			"is thin",
			[]string{release, module + "/proxy", wire},
		},
		"cmd/zerolet-standin": {
			"runs for each service that has names on a network, also while all sleeps: it is small",
			[]string{sys},
		},
	}
}

func TestImports(t *testing.T) {
	rules := rules()
	for _, p := range list(t, "../..") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		rule, known := rules[name]
		if !known {
			t.Errorf("%s: a package that the rules do not know", name)
		}
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			if strings.Contains(first, ".") && !slices.Contains(rule.imports, i) {
				t.Errorf("%s imports %s; it %s", name, i, rule.why)
			}
		}
	}
}

func TestPackageDocs(t *testing.T) {
	for _, dir := range []string{"../..", ".."} {
		for _, p := range list(t, dir) {
			// go list tells of no doc comment in a package of tests alone.
			if p.Doc == "" && p.Name != "" && len(p.Imports) > 0 {
				t.Errorf("%s has no package comment", p.ImportPath)
			}
		}
	}
	for _, name := range []string{"quadlet", "quadlet/scale", "quadlet/convert", "generator", "proxy", "cmd/zerolet/internal/knative"} {
		out, err := exec.Command("go", "-C", "../..", "doc", "./"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), " not ") && !strings.Contains(string(out), " no ") {
			t.Errorf("the comment of package %s does not say what it does not do", name)
		}
	}
}

// Users download what go.mod requires: test and tool dependencies stay out.
func TestRequirements(t *testing.T) {
	out, err := exec.Command("go", "-C", "../..", "list", "-m", "-f", "{{if not .Main}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	used, err := exec.Command("go", "-C", "../..", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	need := strings.Fields(string(used))
	slices.Sort(need)
	need = slices.Compact(need)
	want := []string{"github.com/containers/podman/v4", "github.com/containers/storage", "github.com/coreos/go-systemd/v22", "github.com/godbus/dbus/v5", "go.yaml.in/yaml/v3", "golang.org/x/sys"}
	if !slices.Equal(need, want) {
		t.Errorf("the programs are built of %q, want %q (of %d in the graph)", need, want, len(strings.Fields(string(out))))
	}
}
