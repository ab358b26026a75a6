package main

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/cmd/internal/release"
	"github.com/zerolet/zerolet/quadlet"
)

// Each verb and each of its options is in the manual, which is what --help
// prints, and nothing else is.
func TestHelp(t *testing.T) {
	var all strings.Builder
	status := run(t.Context(), []string{"--help"}, machine{}, &all, &all)
	if status != exitOK || !strings.Contains(all.String(), "zerolet status ") {
		t.Errorf("status %d: %s", status, &all)
	}
	option := regexp.MustCompile(`(?m)^--([a-z-]+)`)
	for _, v := range verbs() {
		if strings.Contains(all.String(), "    zerolet "+v.name+" ") == v.unit {
			t.Errorf("zerolet %s is for units: %v; the synopsis says otherwise", v.name, v.unit)
		}
		var out strings.Builder
		if status := run(t.Context(), []string{"help", v.name}, machine{}, &out, &out); status != exitOK {
			t.Errorf("help of %s: status %d", v.name, status)
		}
		described := make(map[string]bool)
		for _, match := range option.FindAllStringSubmatch(out.String(), -1) {
			described[match[1]] = true
		}
		flags, _ := v.flagSet(&options{}, 0)
		flags.VisitAll(func(f *flag.Flag) {
			if f.Name != "system" && f.Name != "user" && !described[f.Name] {
				t.Errorf("the help of %s does not describe --%s", v.name, f.Name)
			}
			delete(described, f.Name)
		})
		if len(described) > 0 || !strings.Contains(out.String(), "zerolet "+v.name) || strings.ContainsAny(out.String(), "*`") {
			t.Errorf("the help of %s describes %v besides:\n%s", v.name, described, out.String())
		}
	}
}

func TestVersion(t *testing.T) {
	var out, errs strings.Builder
	if status := run(t.Context(), []string{"--version"}, machine{}, &out, &errs); status != exitOK ||
		out.String() != "zerolet "+release.Version()+"\n" || errs.Len() > 0 {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}

func TestCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"":                      "no command",
		"stauts":                `unknown command "stauts"`,
		"status --jsno":         "flag provided but not defined: -jsno",
		"apply web":             "apply takes no name",
		"--version web":         "--version stands alone",
		"wake --user":           "wake needs a name",
		"suggest a b":           "suggest takes one directory",
		"suggest /none":         "no such file or directory",
		"check --json -- --x/y": "lstat",
	} {
		var out, errs strings.Builder
		if status := run(t.Context(), strings.Fields(line), machine{getenv: os.Getenv}, &out, &errs); status != exitUsage || out.Len() > 0 ||
			!strings.HasPrefix(errs.String(), "zerolet: error: ") || !strings.Contains(errs.String(), want) && want != "lstat" {
			t.Errorf("zerolet %s: status %d: %s%s", line, status, &out, &errs)
		}
	}
	c := call{machine: machine{uid: 1000}}
	if _, err := c.parse(strings.Fields("status web --json --system db -- --odd")); err != nil || !c.json || c.manager != quadlet.System ||
		strings.Join(c.names, " ") != "web db --odd" {
		t.Errorf("%v: %+v", err, c.options)
	}
}

// Completion offers what the table of verbs has.
func TestComplete(t *testing.T) {
	abs := t.TempDir()
	if err := os.WriteFile(abs+"/web.container", []byte("[Container]\nImage=localhost/web\nPublishPort=80:80\n[ScaleToZero]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := machine{uid: 1000, getenv: func(name string) string { return map[string]string{"QUADLET_UNIT_DIRS": abs}[name] }}
	for line, want := range map[string]string{
		"st":              "status",
		"-":               "--help --version",
		"--v":             "--version",
		"":                "check render apply status history metrics wake sleep update explain doctor suggest export",
		"status --w":      "--watch",
		"status --user w": "web",
		"wake x":          "",
		"apply ":          "",
		"history --svg w": "",
		"none ":           "",
	} {
		var out strings.Builder
		run(t.Context(), append([]string{"__complete"}, strings.Split(line, " ")...), m, &out, &out)
		if got := strings.Join(strings.Fields(out.String()), " "); got != want {
			t.Errorf("%q is completed with %q, want %q", line, got, want)
		}
	}
}

// Every file in the recipes, and those of the images, are good.
func TestRecipes(t *testing.T) {
	doc, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	machines := []map[string]string{{"web.container": read(t, "../../packaging/bootc/web.container")}}
	named := regexp.MustCompile(`^# (\S+)\n`)
	for recipe := range strings.SplitSeq(string(doc), "\n## ") {
		together := make(map[string]string) // files that say how they are called
		for _, match := range regexp.MustCompile("(?s)```ini\n(.*?)```").FindAllStringSubmatch(recipe, -1) {
			if name := named.FindStringSubmatch(match[1]); name != nil {
				together[name[1]] = match[1]
			} else {
				machines = append(machines, map[string]string{"web.container": match[1]})
			}
		}
		if !strings.Contains(recipe, "\n[Pod]\n") && !strings.Contains(recipe, "\n[Kube]\n") { // of the built-in Quadlet none: TestPodRecipe
			machines = append(machines, together)
		}
	}
	if len(machines) < 5 {
		t.Errorf("only %d recipes", len(machines))
	}
	for _, files := range machines {
		dir := t.TempDir()
		maps.Copy(files, map[string]string{"back.network": "[Network]\n", "proxy.network": "[Network]\n", "db.volume": "[Volume]\n", "world.volume": "[Volume]\n"})
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for uid, manager := range map[int]string{0: "--system", 1000: "--user"} {
			m := machine{uid: uid, getenv: func(name string) string { return map[string]string{"QUADLET_UNIT_DIRS": dir}[name] }}
			var out strings.Builder
			if status := run(t.Context(), []string{"check", manager}, m, &out, &out); status != exitOK {
				t.Errorf("%s\n%s", files, &out)
			}
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
