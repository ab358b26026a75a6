package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// A container without a port is told by who needs it.
func TestCheckDependency(t *testing.T) {
	dir, err := filepath.Abs("testdata/dependency")
	if err != nil {
		t.Fatal(err)
	}
	m := machine{uid: 1000, getenv: func(name string) string { return map[string]string{"QUADLET_UNIT_DIRS": dir}[name] }}
	var stdout, stderr bytes.Buffer
	run(t.Context(), []string{"check"}, m, &stdout, &stderr)
	for _, line := range []string{
		"db.service: no port, runs while needed by api.service web.service worker.service\n",
		"cache.service: no port, runs while needed by db.service web.service\n",
		"lonely.service: no port, needed by nothing\n",
	} {
		if !strings.Contains(stdout.String(), line) {
			t.Errorf("no line %q in\n%s", line, &stdout)
		}
	}
	for _, e := range checked(t, dir).Endpoints {
		if dependency := e.Service == "db.service" || e.Service == "cache.service"; dependency && (len(e.Listen) > 0 || e.IdleTimeout != "" || len(e.NeededBy) == 0) {
			t.Errorf("%+v", e)
		}
	}
}
