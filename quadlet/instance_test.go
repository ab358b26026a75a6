package quadlet

import "testing"

func TestExpandInstance(t *testing.T) {
	for _, test := range []struct {
		name, value, want string
		offset, at        int // a byte of the text, and where it was
	}{
		{"site@82.container", "80%i:80", "8082:80", 4, 4},
		{"site@82.container", "%i%i:x", "8282:x", 5, 5},
		{"site@82.container", "%%i:%t/%p-%j", "%%i:%t/site-site", 15, 10},
		{"my-site@a-b.container", "%p %j %i %I", `my-site site a-b a/b`, 19, 9},
		{`x\x2dy@\x25i.container`, "%P %J %I %i", `x-y x-y %%i \x25i`, 0, 0},
		{`x@\xzz-\x4.container`, "%I", `\xzz/\x4`, 3, 0},
		{"site@82.container", "8%", "8%", 1, 1},
		{"site@82.container", "8%q", "8%q", 2, 1},
		{"site.container", "%i%p", "%i%p", 3, 3},
		{"site@.container", "%i", "%i", 1, 1},
	} {
		f, _ := Parse("/etc/"+test.name, []byte("[Container]\n"))
		got, at := f.ExpandInstance(test.value)
		if got != test.want || at(test.offset) != test.at {
			t.Errorf("%s: %q is %q, want %q; byte %d was at %d, want %d", test.name, test.value, got, test.want, test.offset, at(test.offset), test.at)
		}
	}
}

func TestInstances(t *testing.T) {
	for _, test := range []struct {
		name, text     string
		template, unit string
		container      string
	}{
		{"web.container", "", "", "web", "systemd-web"},
		{"web@.container", "", "web@.container", "web@", ""},
		{"web@.container", "[Install]\nDefaultInstance=1\n", "web@.container", "web@1", "systemd-web_1"},
		{"web@.container", "[Install]\nDefaultInstance=a/b\n", "web@.container", "web@", ""},
		{"web@2.container", "[Install]\nDefaultInstance=1\n", "web@.container", "web@2", "systemd-web_2"},
		{"web@2.container", "[Container]\nContainerName=%p-%i-%N\n", "web@.container", "web@2", "web-2-web@2"},
		{"web@.container", "[Container]\nServiceName=www@\n[Install]\nDefaultInstance=1\n", "web@.container", "www@1", "systemd-www_1"},
	} {
		f, _ := Parse("/etc/"+test.name, []byte(test.text))
		name, known := f.ContainerName()
		if f.Template() != test.template || f.Unit() != test.unit || known != (test.container != "") || known && name != test.container {
			t.Errorf("%s %q: %s, %s, %s %t", test.name, test.text, f.Template(), f.Unit(), name, known)
		}
	}
}
