package generator

import (
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// A start is asked whether it is healthy where the file waits for it, and says
// nothing of how often. What counts for HealthOnFailure= is not asked.
func TestStartupCheck(t *testing.T) {
	const added = "HealthStartupCmd=check --all"
	for lines, want := range map[string]string{
		"Notify=healthy\nHealthCmd=check --all":                                                 added + " asks",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=2m":                              added + " HealthStartupInterval=2m asks",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=1s\nHealthOnFailure=kill":        added + " HealthStartupInterval=1s asks",
		"Notify=healthy\nHealthCmd=check --all\nHealthTimeout=5s":                               added + " HealthStartupTimeout=5s asks",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=disable":                         "",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=0":                               "",
		"Notify=healthy\nHealthCmd=check --all\nHealthStartupInterval=9s":                       "",
		"Notify=healthy\nHealthCmd=check --all\nHealthStartupCmd=other":                         "asks",
		"Notify=healthy\nHealthStartupCmd=other\nHealthOnFailure=kill":                          "asks",
		"Notify=healthy\nHealthCmd=check --all\nHealthStartupCmd=other\nHealthStartupRetries=3": "",
		"Notify=healthy\nHealthCmd=check --all\nHealthStartupCmd=other\nHealthStartupSuccess=3": "",
		"Notify=healthy\nHealthCmd=check --all\nPodmanArgs=--health-startup-cmd=":               "",
		"Notify=healthy\nHealthCmd=none":                                                        "",
		"Notify=healthy":                                                                        "asks",
		"Notify=healthy\nHealthOnFailure=none":                                                  "asks",
		"Notify=healthy\nHealthOnFailure=restart":                                               "note",
		"Notify=yes\nHealthCmd=check":                                                           "",
		"HealthCmd=check":                                                                       "",
	} {
		f, _ := quadlet.Parse("/web.container", []byte("[Container]\nImage=localhost/web\n"+lines+"\n[ScaleToZero]\nListen=8080:80\n"))
		plan := NewPlan(quadlet.Search{}, []*quadlet.File{f})
		var got []string
		for _, entry := range plan.Endpoints[0].override().Newer {
			got = append(got, entry.Key+"="+entry.Value)
		}
		if slices.Contains(plan.Endpoints[0].reserved(), "web-healthy.service") {
			got = append(got, "asks")
		}
		for _, d := range plan.All() {
			got = append(got, d.Severity.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\n%q, want %q", lines, got, want)
		}
	}
}

// The command is Podman's as the container's unit has it, in another unit.
func TestHealthCommand(t *testing.T) {
	file := func(name, container, service string) (f, s *quadlet.File) {
		f, _ = quadlet.Parse(name, []byte("[Container]\nImage=localhost/web\nNotify=healthy\nHealthCmd=check\n"+container))
		s, _ = quadlet.Parse("service", []byte("[Service]\n"+service))
		return f, s
	}
	for _, c := range []struct{ name, service, want string }{
		{"/web.container", "ExecStart=/usr/bin/podman run --name systemd-%N --sdnotify=healthy -d web", "/usr/bin/podman healthcheck run systemd-web"},
		{"/web@1.container", "ExecStart=podman run --name=systemd-%p_%i --sdnotify=healthy -d web --name=other", "podman healthcheck run systemd-web_1"},
		{
			"/web.container", `ExecStart=podman "--module=/a b/%n/%h" --log-level $LEVEL run --name 100%%N --sdnotify=healthy web`,
			`podman "--module=/a b/web.service/%h" --log-level $LEVEL healthcheck run 100%%N`,
		},
		{"/web.container", "ExecStart=podman run --name systemd-%N --sdnotify=conmon -d web", ""},
		{"/web.container", "ExecStart=podman start web", ""},
		{"/web.container", "", ""},
	} {
		f, s := file(c.name, "", c.service+"\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\nEnvironment=LEVEL=%N\nEnvironmentFile=/etc/%p\n")
		if got := strings.Join(healthCommand(f, s), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.service, got, c.want)
		}
		for _, u := range healthUnits(f, s, quadlet.System, Layout{Zerolet: "/usr/bin/zerolet"}) {
			text := string(u.Text())
			name := f.Unit()
			prefix, _, _ := strings.Cut(name, "@")
			for _, line := range []string{
				"ExecStart=-/usr/bin/zerolet health --system -- " + name + " " + c.want + "\n",
				"Environment=LEVEL=" + name + "\nEnvironmentFile=/etc/" + prefix + "\n",
			} {
				if !strings.Contains(text, line) {
					t.Errorf("no %s in\n%s", line, text)
				}
			}
			if strings.Contains(text, "PODMAN_SYSTEMD_UNIT") {
				t.Errorf("another unit's name:\n%s", text)
			}
		}
	}
}
