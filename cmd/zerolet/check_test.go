package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkFiles is what check says of files, by their paths in a directory.
func checkFiles(t *testing.T, files map[string]string, names ...string) (status int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := machine{clock: time.Now, getenv: func(name string) string {
		return map[string]string{"QUADLET_UNIT_DIRS": dir}[name]
	}}
	for i, name := range names {
		names[i] = strings.ReplaceAll(name, "DIR", dir)
	}
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"check"}, names...), m, &out, &errs)
	clean := func(text string) string { return strings.ReplaceAll(text, dir, "DIR") }
	return status, clean(out.String()), clean(errs.String())
}

// Who has scaled nothing, though he may think so, is told.
func TestCheckNothing(t *testing.T) {
	const web = "[Container]\nImage=localhost/web\nPublishPort=8080:80\n"
	for name, test := range map[string]struct {
		files  map[string]string
		stderr string
	}{
		"nothing":           {},
		"no section":        {map[string]string{"web.container": web, "sub/x.container": web}, ""},
		"another directory": {map[string]string{"web.container": web, "web.d/scale.conf": "[ScaleToZero]\n", "web.service.d/scale.conf": "[ScaleToZero]\n"}, ""},
		"another extension": {map[string]string{"web.container": web, "web.container.d/scale.txt": "[ScaleToZero]\n"}, ""},
		"mistyped": {
			map[string]string{"web.container": web + "[Scale-To-Zero]\n"},
			"DIR/web.container:4:1: warning: [Scale-To-Zero] is not zerolet's section, and scales nothing\n" +
				"    4 | [Scale-To-Zero]\n      | ^\nhint: write [ScaleToZero]\n",
		},
		"mistyped for all": {
			map[string]string{"web.container": web, "api.container": web, "container.d/scale.conf": "[X-Scaletozero]\n"},
			"DIR/container.d/scale.conf:1:1: warning: [X-Scaletozero] is not zerolet's section, and scales nothing\n" +
				"    1 | [X-Scaletozero]\n      | ^\nhint: write [ScaleToZero]\n",
		},
		"outside of a section": {
			map[string]string{"web.container": web, "web.container.d/scale.conf": "IdleTimeout=30s\n"},
			"DIR/web.container.d/scale.conf:1:1: warning: assignment before the first section\n" +
				"    1 | IdleTimeout=30s\n      | ^\nhint: open a section first, such as [Container]\n",
		},
		"not ours": {map[string]string{"web.container": web + "x\n[Container", "web.container.d/a.conf": "[Container\n[Service]\nx"}, ""},
	} {
		status, stdout, stderr := checkFiles(t, test.files)
		if want := "no file has a [ScaleToZero] section in DIR\n"; status != exitOK || stdout != want || stderr != test.stderr {
			t.Errorf("%s: status %d, %q, %s", name, status, stdout, stderr)
		}
	}
}

// Of several files those are checked that are scaled; of each other one it is said why it
// is not.
func TestCheckSome(t *testing.T) {
	files := map[string]string{
		"web.container":   "[Container]\nImage=localhost/web\nPublishPort=8080:80\n[ScaleToZero]\n",
		"caddy.container": "[Container]\nImage=localhost/caddy\n", "in.container": "[Container]\nImage=localhost/in\nPod=plain.pod\n",
		"plain.pod": "[Pod]\n", "own.network": "[Network]\n",
		"w@.container":  "[Container]\nImage=localhost/w\n[ScaleToZero]\n",
		"w@1.container": "[Container]\nImage=localhost/w\nPublishPort=8081:80\n[ScaleToZero]\n",
	}
	const usual = "web.service: listens on 8080, stops 2min after the last connection\n"
	for name, test := range map[string]struct {
		stdout, stderr string
		status         int
	}{
		"DIR/caddy.container DIR/web.container": {usual, "DIR/caddy.container:1:1: note: it has no [ScaleToZero] section\n    1 | [Container]\n      | ^\n", exitOK},
		"web in plain-pod.service": {usual, "DIR/in.container:1:1: note: its pod plain.pod has no [ScaleToZero] section\n    1 | [Container]\n      | ^\n" +
			"DIR/plain.pod:1:1: note: it has no [ScaleToZero] section\n    1 | [Pod]\n      | ^\n", exitOK},
		"web w@":          {usual, "DIR/w@.container:1:1: note: it is left to its instances\n    1 | [Container]\n      | ^\n", exitOK},
		"own.network web": {usual, "DIR/own.network:1:1: note: zerolet scales no .network files\n    1 | [Network]\n      | ^\n", exitOK},
		"caddy":           {"", "zerolet: error: no scaled container \"caddy\": it has no [ScaleToZero] section\n", exitUsage},
		"web gone":        {"", "zerolet: error: no scaled container \"gone\"\n", exitUsage},
		"DIR/":            {"", "zerolet: error: DIR is a directory: name the files in it\n", exitUsage},
	} {
		if status, stdout, stderr := checkFiles(t, files, strings.Fields(name)...); status != test.status || stdout != test.stdout || stderr != test.stderr {
			t.Errorf("%s: status %d, %q, %s", name, status, stdout, stderr)
		}
	}
}

// What becomes of a file is told with all that its keys say, and how a reverse proxy
// calls it.
func TestCheckWhole(t *testing.T) {
	for text, want := range map[string]string{
		"PublishPort=8086:80\n[ScaleToZero]\nWakeOn=Mon..Fri 08:00\nStayAwake=10h\n": "web.service: listens on 8086, stops 2min after the last connection\n" +
			"  the calendar wakes it: Mon..Fri 08:00\n  once awake, it stays so for 10h at least\n",
		"PublishPort=8086:80\n[ScaleToZero]\nSleep=freeze\nIdleTimeout=10min\nReclaimMemory=no\n": "web.service: listens on 8086, freezes 10min after the last connection, stops when frozen for 1h\n" +
			"  its memory stays where it is while it is frozen\n",
		"Network=own.network:alias=www\n[ScaleToZero]\nListen=own.network:80\nListen=8086:80\nStandIn=rename\n": "web.service: listens on 8086 and own.network:80 as systemd-web and www, stops 2min after the last connection\n",
	} {
		if _, stdout, stderr := checkFiles(t, map[string]string{"web.container": "[Container]\nImage=localhost/web\n" + text, "own.network": "[Network]\n"}); stdout != want || stderr != "" {
			t.Errorf("%s: %s%s", text, stdout, stderr)
		}
	}
}

// So it is in the JSON.
func TestCheckWholeJSON(t *testing.T) {
	_, stdout, _ := checkFiles(t, map[string]string{
		"own.network": "[Network]\n",
		"web.container": "[Container]\nImage=localhost/web\nNetwork=own.network\n[ScaleToZero]\nListen=own.network:80\nSleep=freeze\n" +
			"StayAwake=5min\nStandIn=rename\n",
	}, "--json")
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || len(r.Endpoints) != 1 {
		t.Fatalf("%v: %s", err, stdout)
	}
	e := r.Endpoints[0]
	if got := fmt.Sprintln(e.Names, e.IdleTimeout, e.Sleep, e.StopAfter, e.Also); got != "[systemd-web] 2min freeze 1h [once awake, it stays so for 5min at least]\n" {
		t.Error(got)
	}
}
