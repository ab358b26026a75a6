package generator

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/convert"
)

// What a container uses is in its file, in those that it names, and in what
// Quadlet makes of both.
func TestUse(t *testing.T) {
	search := quadlet.Search{Getenv: func(string) string { return "" }}
	for text, want := range map[string]Use{
		"Image=localhost/web":                                        {Image: "localhost/web"},
		"Image=localhost/web:${TAG}\nVolume=%N-data:/data:Z":         {Image: "localhost/web:${TAG}", Volumes: []string{"%N-data"}},
		"Image=a\nVolume=/srv:/srv\nVolume=/none\nVolume=./x:/y":     {Image: "a"},
		"Image=a\nVolume=b:/b\nVolume=c:/c:U\nVolume=b:/d":           {Image: "a", Volumes: []string{"b", "c"}},
		"Image=a\nMount=type=volume,source=b,destination=/b":         {Image: "a", Volumes: []string{"b"}},
		"Image=a\nMount=type=bind,source=/b,destination=/b":          {Image: "a"},
		"Image=a\nPodmanArgs=--volume=b:/b --mount type=tmpfs,dst=/": {Image: "a", Volumes: []string{"b"}},
		"Image=tag.image": {Image: "localhost/tagged"},
		"Image=own.image": {Image: "docker.io/library/own"},
		"Rootfs=/srv/fs":  {Image: "/srv/fs", Rootfs: true},
	} {
		var files []*quadlet.File
		for name, text := range map[string]string{
			"web.container": "[Container]\n" + text + "\n[ScaleToZero]\nListen=8080:80\n",
			"tag.image":     "[Image]\nImage=docker.io/library/tag\nImageTag=localhost/tagged\n",
			"own.image":     "[Image]\nImage=docker.io/library/own\n",
		} {
			f, _ := quadlet.Parse("/etc/containers/systemd/"+name, []byte(text))
			files = append(files, f)
		}
		want.Unit = "web"
		plan := NewPlan(search, files)
		plan.Convert(t.Context(), convert.Config{Sources: &quadlet.Sources{}})
		if got := plan.Endpoints[0].Uses()[0]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want %+v\n%v", text, got, want, plan.All())
		}
	}
}

// What a .kube file plays uses what its YAML file says.
func TestPlayedUse(t *testing.T) {
	dir := t.TempDir()
	yaml := "kind: Pod\nspec:\n  containers: [{name: web, image: localhost/web$1%h}, {name: db, image: localhost/db}]\n" +
		"  volumes: [{name: data, persistentVolumeClaim: {claimName: blog-data}}, {name: tmp, emptyDir: {}}]\n"
	if err := os.WriteFile(filepath.Join(dir, "blog.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _ := quadlet.Parse(filepath.Join(dir, "blog.kube"), []byte("[Kube]\nYaml=blog.yaml\nAutoUpdate=db/local\nPublishPort=8080:80\n[ScaleToZero]\n"))
	e := NewPlan(quadlet.Search{Getenv: func(string) string { return "" }}, []*quadlet.File{f}).Endpoints[0]
	want := []Use{
		{Unit: "blog", Image: "localhost/web$1%h", Volumes: []string{"blog-data"}},
		{Unit: "blog#2", Image: "localhost/db", Volumes: []string{"blog-data"}, Update: AutoUpdate{Policy: "local"}},
	}
	if got := e.Uses(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	u := e.keeping(Unit{Name: "blog.service"}, Layout{Zerolet: "/usr/bin/zerolet"})
	text := "[Service]\nExecStopPost=-/usr/bin/zerolet keep --system -- blog localhost/web$$1%%h blog-data\n" +
		"ExecStopPost=-/usr/bin/zerolet keep --system -- blog#2 localhost/db blog-data\n"
	if !strings.HasSuffix(string(u.Text()), text) {
		t.Errorf("%s", u.Text())
	}
}
