package quadlet

import (
	"slices"
	"testing"
)

func TestDropinDirs(t *testing.T) {
	for name, want := range map[string][]string{
		"a.container": {"a.container.d", "container.d"},
		"a-b-c.container": {
			"a-b-c.container.d", "a-b-.container.d", "a-.container.d", "container.d",
		},
		"a--b.volume":  {"a--b.volume.d", "a--.volume.d", "a-.volume.d", "volume.d"},
		"t@.container": {"t@.container.d", "container.d"},
		"a-t@x-y.container": {
			"a-t@x-y.container.d", "a-t@.container.d", "a-@.container.d", "a-.container.d", "container.d",
		},
	} {
		if got := DropinDirs(name); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestDropins(t *testing.T) {
	root := tree(t,
		"1/a-b.container|[Container]\nImage=a\n",
		"1/container.d/10.conf", "1/container.d/50.conf", "1/container.d/notes.txt",
		"1/a-.container.d/10.conf", "1/a-.container.d/9.conf",
		"2/a-b.container.d/10.conf", "2/a-b.container.d/x.conf",
		"1/a-b.container.d/x.conf",
		"2/container.d/zz.conf", "1/volume.d/20.conf", "1/c.container.d/20.conf",
	)
	s, ds := Scan([]Tree{{root + "/1", root + "/2"}})
	if len(ds) > 0 {
		t.Error(ds)
	}
	got := under(root, s.Dropins("a-b.container"))
	want := lines(
		"/2/a-b.container.d/10.conf",
		"/1/container.d/50.conf",
		"/1/a-.container.d/9.conf",
		"/1/a-b.container.d/x.conf",
		"/2/container.d/zz.conf",
	)
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestLoad(t *testing.T) {
	root := tree(t,
		"a.container|[Container]\nImage=a\nPublishPort=1:1\n[Install]\nWantedBy=x\n",
		"a.container.d/10-scale.conf|[ScaleToZero]\nIdleTimeout=30s\n",
		"a.container.d/20-ports.conf|[Container]\nPublishPort=\nPublishPort=2:2\n",
		"a.container.d/30-bad.conf|[Container]\njunk\nImage=b\n",
		"a.container.d/40-masked.conf -> /dev/null",
		"a.container.d/50-missing.conf -> nowhere",
		"a.container.d/60-dir.conf/",
		"container.d|not a directory",
	)
	s, ds := Scan([]Tree{{root}})
	if len(ds) > 0 {
		t.Error(ds)
	}
	f, ds := s.Load(root + "/a.container")
	want := lines(
		"/container.d: error: cannot read drop-in directory: not a directory",
		"/a.container.d/30-bad.conf:2:1: error: expected KEY=VALUE, [SECTION] or a comment",
		"hint: a comment starts with #",
		"/a.container.d/50-missing.conf: error: cannot read: no such file or directory",
		"/a.container.d/60-dir.conf: error: cannot read: it is a directory",
	)
	if got := under(root, texts(ds)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	ports := f.All("Container", "PublishPort")
	if len(ports) != 1 || ports[0].Value != "2:2" || under(root, []string{ports[0].Pos.String()}) != "/a.container.d/20-ports.conf:3:1" {
		t.Errorf("ports are %v", ports)
	}
	if image, _ := f.Last("Container", "Image"); image.Value != "b" || !f.Has("ScaleToZero") {
		t.Errorf("not all drop-ins were merged: %v", f.Entries)
	}
	wantText := "[Container]\nImage=a\nPublishPort=1:1\nPublishPort=\nPublishPort=2:2\nImage=b\n" +
		"[Install]\nWantedBy=x\n[ScaleToZero]\nIdleTimeout=30s\n"
	if got := string(f.Text()); got != wantText {
		t.Errorf("text is:\n%s\nwant:\n%s", got, wantText)
	}
}
