package systemd

import "testing"

func TestVersion(t *testing.T) {
	for text, want := range map[string]int{
		"systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n": 252,
		"systemd 257~rc2 (257~rc2-3)\n":                 257,
		"systemd 255.4 (255.4-1.fc40)\n":                255,
		"systemd 256-devel (v256-12-gabcdef0)\n":        256,
		"systemd 262 (262-1)\n":                         262,
	} {
		if got, err := version(text); got != want || err != nil {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "systemd\n", "systemd ~rc2 (1)", "other 257", "systemd 99999999999999999999"} {
		if got, err := version(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}
