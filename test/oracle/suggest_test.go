package oracle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/generator/suggest"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/test/corpus"
)

// TestSuggest writes what is suggested for the corpus: no file has an error that it
// had not, and nothing is left to suggest. It counts the stacks that sleep.
func TestSuggest(t *testing.T) {
	table := "| Podman | stacks | sleep as they are | sleep then | of several files | sleep then |\n|---|---|---|---|---|---|\n"
	ran := 0
	for _, o := range oracles() {
		bin := o.build(t)
		if !o.own {
			bin = ""
		}
		const m = quadlet.User // the other's are the same
		t.Run(o.version, func(t *testing.T) {
			dir := corpus.Plain(t)
			before := errorsOf(planOf(t, bin, dir, m))
			stacks := stacksOf(t, bin, dir)
			written := writeAll(t, stacks)
			if written == 0 {
				t.Fatal("nothing is suggested")
			}
			for _, d := range errorsOf(planOf(t, bin, dir, m)) {
				if !slices.Contains(before, d) {
					t.Errorf("an error that was not there: %v", d)
				}
			}
			again := stacksOf(t, bin, dir)
			for i, s := range again {
				if len(s.Dropins) > 0 || s.Sleeps() != stacks[i].Sleeps() || s.Slept != s.Sleeps() {
					t.Errorf("%s: sleeps %t, then %t; slept %t; left to suggest: %v", s.Files[0].Name(), stacks[i].Sleeps(), s.Sleeps(), s.Slept, s.Dropins)
				}
			}
			table += fmt.Sprintf("| %s | %s |\n", o.version, count(stacks))
			ran++
		})
	}
	if ran == len(oracles()) {
		document(t, "stacks", table)
	}
}

func stacksOf(t *testing.T, bin, dir string) []suggest.Stack {
	t.Helper()
	stacks, ds := suggest.Stacks(t.Context(), generatorOf(bin, dir, quadlet.User))
	for _, d := range ds {
		t.Log(d)
	}
	return stacks
}

// writeAll does as "suggest --write".
func writeAll(t *testing.T, stacks []suggest.Stack) (n int) {
	t.Helper()
	for _, s := range stacks {
		for _, d := range s.Dropins {
			path := filepath.Join(d.Dir(), d.Name(func(path string) bool {
				_, err := os.Lstat(path)
				return err == nil
			}))
			if err := d.Write(path); err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	return n
}

func errorsOf(plan *generator.Plan) quadlet.Diagnostics {
	return slices.DeleteFunc(plan.All(), func(d quadlet.Diagnostic) bool { return d.Severity != quadlet.Error })
}

// count is how many stacks there are, slept, and sleep, and of those with several
// files.
func count(stacks []suggest.Stack) string {
	slept, sleep, several, together := 0, 0, 0, 0
	for _, s := range stacks {
		if s.Slept {
			slept++
		}
		if s.Sleeps() {
			sleep++
		}
		if len(s.Files) > 1 {
			several++
			if s.Sleeps() {
				together++
			}
		}
	}
	return fmt.Sprintf("%d | %d | %d | %d | %d", len(stacks), slept, sleep, several, together)
}

// A pod has the section for all of its containers, and a .kube file for what it
// plays.
func TestSuggestPod(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"shop.pod":             "[Pod]\nPublishPort=8080:80\nNetwork=own.network\n[Install]\nWantedBy=default.target\n",
		"shop-web.container":   "[Container]\nImage=localhost/web\nPod=shop.pod\nEnvironment=QUEUE=redis://queue\n[Install]\nWantedBy=default.target\n",
		"shop-db.container":    "[Container]\nImage=localhost/db\nPod=shop.pod\n",
		"queue.container":      "[Container]\nImage=localhost/queue\nContainerName=queue\nNetwork=own.network\n[Install]\nWantedBy=default.target\n",
		"own.network":          "[Network]\n",
		"play.kube":            "[Kube]\nYaml=play.yaml\nPublishPort=8081:80\n",
		"play.yaml":            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: play\nspec:\n  containers:\n  - name: web\n    image: localhost/web\n",
		"lib.kube":             "[Kube]\nYaml=lib.yaml\nNetwork=kube.network\nPublishPort=8082:80\n",
		"lib.yaml":             "kind: Pod\nmetadata:\n  name: lib\nspec:\n  containers:\n  - name: web\n    image: localhost/lib\n    env:\n    - name: DB\n      value: mysql://lib-db:3306\n",
		"lib-db.kube":          "[Kube]\nYaml=lib-db.yaml\nNetwork=kube.network\n[Install]\nWantedBy=default.target\n",
		"lib-db.yaml":          "kind: Pod\nmetadata:\n  name: lib-db\nspec:\n  containers:\n  - name: db\n    image: localhost/db\n",
		"lib-other.container":  "[Container]\nImage=localhost/other\nNetwork=kube.network\nPublishPort=8083:80\n",
		"kube.network":         "[Network]\n",
		"caddy.container":      "[Container]\nImage=localhost/caddy\nNetwork=web.network\nPublishPort=443:443\nVolume=./Caddyfile:/etc/caddy/Caddyfile\n",
		"Caddyfile":            "photos.example.org {\n\treverse_proxy systemd-photos:2283\n}\n",
		"web.network":          "[Network]\n",
		"photos.pod":           "[Pod]\nNetwork=web.network\n",
		"photos-1.container":   "[Container]\nImage=localhost/photos\nPod=photos.pod\n",
		"torrents.pod":         "[Pod]\nPublishPort=9000:9000\n",
		"torrents-1.container": "[Container]\nImage=docker.io/qbittorrentofficial/qbittorrent-nox:5\nPod=torrents.pod\n",
		"devices.kube":         "[Kube]\nYaml=devices.yaml\nPublishPort=8084:80\n",
		"devices.yaml":         "kind: Pod\nmetadata:\n  name: devices\nspec:\n  containers:\n  - name: bridge\n    image: docker.io/koenkk/zigbee2mqtt:2\n",
		"no-port.pod":          "[Pod]\n",
		"no-port-1.container":  "[Container]\nImage=localhost/x\nPod=no-port.pod\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := oracles()[2]
	bin := o.build(t)
	want := map[string]string{
		"shop.pod":            "[Unit]\nRequires=queue.service\nAfter=queue.service\n\n[ScaleToZero]\n",
		"queue.container":     "[Install]\nWantedBy=\n\n[ScaleToZero]\n",
		"play.kube":           "[ScaleToZero]\n",
		"lib.kube":            "[Unit]\nRequires=lib-db.service\nAfter=lib-db.service\n\n[ScaleToZero]\n",
		"lib-db.kube":         "[Install]\nWantedBy=\n\n[ScaleToZero]\n",
		"lib-other.container": "[ScaleToZero]\n",
		"photos.pod":          "[ScaleToZero]\nListen=web.network:2283\nStandIn=rename\n",
	}
	awake := []string{"no-port-1.container", "no-port.pod", "caddy.container", "torrents-1.container", "torrents.pod", "devices.kube"}
	stacks := stacksOf(t, bin, dir)
	for _, s := range stacks {
		for _, d := range s.Dropins {
			if d.Text != want[d.File.Name()] {
				t.Errorf("%s: %q, want %q", d.File.Name(), d.Text, want[d.File.Name()])
			}
			delete(want, d.File.Name())
		}
		if s.Sleeps() == slices.Contains(awake, s.Files[0].Name()) {
			t.Errorf("%s sleeps: %t, %v", s.Files[0].Name(), s.Sleeps(), s.Awake)
		}
	}
	if len(want) > 0 {
		t.Errorf("not suggested: %v", want)
	}
	writeAll(t, stacks)
	for _, s := range stacksOf(t, bin, dir) {
		if len(s.Dropins) > 0 || s.Sleeps() != s.Slept {
			t.Errorf("%s: %v is left, sleeps %t", s.Files[0].Name(), s.Dropins, s.Sleeps())
		}
	}
	if ds := errorsOf(planOf(t, bin, dir, quadlet.User)); len(ds) > 0 {
		t.Errorf("errors: %v", ds)
	}
}
