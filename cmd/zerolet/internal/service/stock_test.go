package service

import (
	"slices"
	"testing"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
)

// A group is held by a unit outside that runs, also by way of another group, and not by
// one that stops with it.
func TestHeld(t *testing.T) {
	groups := [][]string{{"db.service"}, {"app.service"}, {"vpn.service", "films.service"}, {"vpn.service", "music.service"}}
	for _, test := range []struct {
		name    string
		outside systemd.Unit
		want    []bool
	}{
		{"runs", systemd.Unit{"ActiveState": "active"}, []bool{true, true, false, false}},
		{"rests", systemd.Unit{"ActiveState": "inactive"}, []bool{false, false, false, false}},
	} {
		got := held(map[string]systemd.Unit{
			"outside.service": test.outside,
			"app.service":     {"ActiveState": "active", "RequiredBy": "outside.service"},
			"db.service":      {"ActiveState": "active", "RequiredBy": "app.service"},
			"vpn.service":     {"ActiveState": "active", "BoundBy": "films.service music.service"},
			"films.service":   {"ActiveState": "active"},
			"music.service":   {"ActiveState": "active", "WantedBy": "default.target"},
		}, groups)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
