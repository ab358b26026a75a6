// Package butane compiles the Butane file of packaging/coreos with Butane's own
// code.
package butane

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
)

func TestButane(t *testing.T) {
	source, err := os.ReadFile("../../packaging/coreos/zerolet.bu")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command("flock", "../../Makefile", "make", "-C", "../..", "install", "DESTDIR="+dir, "PREFIX=/usr/local").CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	ignition, report, err := config.TranslateBytes(source, common.TranslateBytesOptions{
		TranslateOptions: common.TranslateOptions{FilesDir: dir},
	})
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%v\n%s", err, report)
	}
	var got struct {
		Storage struct {
			Files []struct{ Path string }
			Links []struct{ Path, Target string }
		}
	}
	if err := json.Unmarshal(ignition, &got); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, f := range got.Storage.Files {
		paths = append(paths, f.Path)
	}
	for _, l := range got.Storage.Links {
		if !slices.Contains(paths, l.Target) {
			t.Errorf("%s leads to %s, which is not there", l.Path, l.Target)
		}
	}
	if !slices.Contains(paths, "/etc/containers/systemd/web.container") || len(got.Storage.Links) != 2 {
		t.Errorf("files %v, links %v", paths, got.Storage.Links)
	}
}
