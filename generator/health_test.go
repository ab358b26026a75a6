package generator

import (
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// A start is asked whether it is healthy where the file has a check that comes
// late, waits for it, and says nothing of its start itself.
func TestStartupCheck(t *testing.T) {
	const asked = "HealthStartupCmd=check --all HealthStartupInterval=1s"
	for lines, want := range map[string]string{
		"Notify=healthy\nHealthCmd=check --all":                                   asked,
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=2m":                asked,
		"Notify=healthy\nHealthCmd=check --all\nHealthTimeout=5s":                 asked + " HealthStartupTimeout=5s",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=1s":                "",
		"Notify=healthy\nHealthCmd=check --all\nHealthInterval=disable":           "",
		"Notify=healthy\nHealthCmd=check --all\nHealthStartupInterval=9s":         "",
		"Notify=healthy\nHealthCmd=check --all\nPodmanArgs=--health-startup-cmd=": "",
		"Notify=healthy\nHealthCmd=none":                                          "",
		"Notify=healthy":                                                          "note",
		"Notify=yes\nHealthCmd=check":                                             "",
		"HealthCmd=check":                                                         "",
	} {
		f, _ := quadlet.Parse("/web.container", []byte("[Container]\nImage=localhost/web\n"+lines+"\n[ScaleToZero]\nListen=8080:80\n"))
		plan := NewPlan(quadlet.Search{}, []*quadlet.File{f})
		var got []string
		for _, entry := range plan.Endpoints[0].override().Newer {
			got = append(got, entry.Key+"="+entry.Value)
		}
		for _, d := range plan.All() {
			got = append(got, d.Severity.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s:\n%q, want %q", lines, got, want)
		}
	}
}
