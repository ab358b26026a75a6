package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A pod is called by its file, its service or one of its containers, and is not
// exported.
func TestPodNames(t *testing.T) {
	dir, err := filepath.Abs("testdata/pod")
	if err != nil {
		t.Fatal(err)
	}
	m := machine{uid: 1000, getenv: func(name string) string { return map[string]string{"QUADLET_UNIT_DIRS": dir}[name] }}
	for _, name := range []string{"old", "old.pod", "old-pod", "old-pod.service", "old-web", "old-db.container", filepath.Join(dir, "old.pod")} {
		var out strings.Builder
		status := run(t.Context(), []string{"export", "knative", "--user", name}, m, &out, &out)
		if want := "old.pod:6:1: error: a pod is not exported"; status != exitError || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %d, want %q in\n%s", name, status, want, &out)
		}
	}
	for _, name := range []string{"old-backup", "shop-x"} { // no container of a scaled pod
		var out strings.Builder
		if status := run(t.Context(), []string{"check", "--user", name}, m, &out, &out); status != exitUsage {
			t.Errorf("%s: %d\n%s", name, status, &out)
		}
	}
}
