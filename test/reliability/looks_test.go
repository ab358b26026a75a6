package reliability

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/corpus"
	"github.com/zerolet/zerolet/test/harness"
)

// TestLooks looks again and again at files that nobody has edited, of every kind:
// there is nothing to do each time. The scaled ones have options that Quadlet
// writes in another order at each run.
func TestLooks(t *testing.T) {
	looks, most := 3, 6
	if *soak {
		looks, most = 100, 6
	}
	each(t, func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost/imagename", "localhost/image", "image"} {
			h.Must(t, "podman", "tag", image, name)
		}
		dir, names := corpus.Copy(t, func(i int, _ string) string {
			return fmt.Sprintf("[Container]\nAddHost=one:192.0.2.1\nAddHost=two:192.0.2.2\nHostName=web\nShmSize=64m\nTimezone=local\nTmpfs=/tmp\nTmpfs=/run\n"+
				"Ulimit=nofile=1000:1000\n[Install]\nWantedBy=default.target\n[ScaleToZero]\nListen=127.0.0.1:%d:80\n", h.Port+200+2*i)
		})
		putAll(h, dir)
		taken := keepTaken(h, names, most)
		t.Logf("%d files: %s", len(taken), strings.Join(taken, " "))
		h.Reload()
		if out, err := h.Session.Run(t.Context(), "zerolet", "apply"); err != nil {
			t.Fatalf("%v\n%s%s", err, out.Stdout, out.Stderr)
		}
		for look := range looks {
			for _, args := range [][]string{{"doctor"}, {"apply", "--dry-run"}} {
				out, err := h.Session.Run(t.Context(), append([]string{"zerolet"}, args...)...)
				if said := out.Stdout; err != nil || said != "all is well\n" && said != fmt.Sprintf("nothing to do: %d services as declared\n", len(taken)) {
					t.Fatalf("look %d: zerolet %s: %v\n%s%s", look, strings.Join(args, " "), err, said, out.Stderr)
				}
			}
		}
	})
}

// putAll copies a directory to where the manager's Quadlet files are.
func putAll(h *harness.Host, dir string) {
	h.Helper()
	pack := exec.CommandContext(h.Context(), "tar", "--create", "--directory", dir, ".")
	files, err := pack.Output()
	if err != nil {
		h.Fatal(err)
	}
	h.Must(h.T, "mkdir", "-p", h.QuadletDir)
	unpack := h.Command(h.Context(), "tar", "--extract", "--no-same-owner", "--no-same-permissions", "--directory", h.QuadletDir)
	unpack.Stdin = bytes.NewReader(files)
	if out, err := unpack.CombinedOutput(); err != nil {
		h.Fatalf("%v\n%s", err, out)
	}
}

// keepTaken removes the files that this machine refuses, those that another .container
// has to be there for, and those beyond the number, last of all those that refer to a
// file of another kind.
func keepTaken(h *harness.Host, names []string, most int) []string {
	h.Helper()
	out, _ := h.Session.Run(h.Context(), "zerolet", "check", "--json") // some are refused
	type endpoint struct {
		File string `json:"file"`
	}
	var report struct {
		Endpoints []endpoint `json:"endpoints"`
	}
	if err := json.Unmarshal([]byte(out.Stdout), &report); err != nil {
		h.Fatalf("%v\n%s%s", err, out.Stdout, out.Stderr)
	}
	refers := h.Must(h.T, "sh", "-c", `cd "$1" && grep -lE '[.](image|network|volume|build|pod)' -- *.container`, "sh", h.QuadletDir)
	joined, _ := h.Session.Run(h.Context(), "sh", "-c", `cd "$1" && grep -lE '^Network=.*[.]container' -- *.container`, "sh", h.QuadletDir)
	report.Endpoints = slices.DeleteFunc(report.Endpoints, func(e endpoint) bool {
		return slices.Contains(strings.Fields(joined.Stdout), path.Base(e.File))
	})
	var kept []string
	for _, e := range report.Endpoints {
		if name := path.Base(e.File); slices.Contains(strings.Fields(refers), name) {
			kept = append(kept, name)
		}
	}
	for _, e := range report.Endpoints {
		if name := path.Base(e.File); len(kept) < most && !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	for _, name := range names {
		if file := path.Join(h.QuadletDir, name); !slices.Contains(kept, name) {
			h.Must(h.T, "rm", "-r", "--", file, file+".d")
		}
	}
	return kept
}
