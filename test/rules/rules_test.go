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

// imports are what each package may import besides the standard library. The
// data goes one way: quadlet, generator; the proxy stands by itself.
func imports() map[string][]string {
	const (
		systemd = "github.com/coreos/go-systemd/v22/"
		podman  = "github.com/containers/podman/v4/pkg/systemd/"
	)
	return map[string][]string{
		// Reading knows neither the section nor Podman's conversion: it splits
		// words as Quadlet does, and root reads with the rights of who has made
		// a file (setfsuid(2)).
		"quadlet": {podman + "parser", "golang.org/x/sys/unix"},
		// What a section means follows from the file alone: the same on every
		// machine, whatever Podman it has. A row says what the proxy is told, in
		// the words of the leaf that both share.
		"quadlet/scale": {module + "/quadlet", module + "/proxy/wire"},
		// Quadlet is run for files with overrides, whoever asks for them and why.
		"quadlet/convert": {module + "/quadlet", podman + "parser", podman + "quadlet"},
		"proxy/wire":      {},
		"generator":       {module + "/quadlet", module + "/quadlet/scale", module + "/quadlet/convert", module + "/proxy/wire", systemd + "unit"},
		"proxy":           {module + "/proxy/wire", systemd + "daemon", systemd + "journal", "golang.org/x/sys/unix"},
		"cmd/zerolet":     {module + "/quadlet", module + "/quadlet/scale", module + "/quadlet/convert", module + "/generator", module + "/proxy/wire", module + "/cmd/internal/release", module + "/cmd/zerolet/internal/systemd", module + "/cmd/zerolet/internal/knative", "golang.org/x/sys/unix"},
		// systemd and the journal are asked by their own programs.
		"cmd/zerolet/internal/systemd": {},
		"cmd/zerolet/internal/knative": {module + "/quadlet", module + "/quadlet/scale", "go.yaml.in/yaml/v3"},
		"cmd/internal/release":         {},
		"cmd/zerolet-generator":        {module + "/cmd/internal/release", module + "/quadlet", module + "/quadlet/scale", module + "/quadlet/convert", module + "/generator", systemd + "journal"},
		"cmd/zerolet-proxy":            {module + "/cmd/internal/release", module + "/proxy", module + "/proxy/wire"},
	}
}

func TestImports(t *testing.T) {
	allowed := imports()
	for _, p := range list(t, "../..") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		may, known := allowed[name]
		if !known {
			t.Errorf("%s: a package that the rules do not know", name)
		}
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			if strings.Contains(first, ".") && !slices.Contains(may, i) {
				t.Errorf("%s imports %s", name, i)
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
	want := []string{"github.com/containers/podman/v4", "github.com/containers/storage", "github.com/coreos/go-systemd/v22", "go.yaml.in/yaml/v3", "golang.org/x/sys"}
	if !slices.Equal(need, want) {
		t.Errorf("the programs are built of %q, want %q (of %d in the graph)", need, want, len(strings.Fields(string(out))))
	}
}
