package generator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/quadlet"
)

// byName is the endpoint of a container with a name on a network that no file makes.
func byName(t *testing.T, home, lines string) *Endpoint {
	t.Helper()
	f, _ := quadlet.Parse("/etc/containers/systemd/web.container",
		[]byte("[Container]\nImage=localhost/web\n"+lines+"\n[ScaleToZero]\nListen=front:80\nStandIn=rename\n"))
	search := quadlet.Search{Manager: quadlet.User, Getenv: func(name string) string { return map[string]string{"HOME": home}[name] }}
	return NewPlan(search, []*quadlet.File{f}).Endpoints[0]
}

// A network that only Podman knows is refused if it is not there, or if it knows no
// names.
func TestNetworkOfPodman(t *testing.T) {
	for kept, want := range map[string]string{
		"":                        "there is no network front",
		`{"dns_enabled": false}`:  "network front knows no names",
		`{"driver": "macvlan"}`:   "network front knows no names",
		`{"dns_enabled": true}`:   "",
		"what no Podman writes\n": "",
	} {
		home := t.TempDir()
		path := filepath.Join(home, ".local/share/containers/storage/networks/front.json")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if kept != "" {
			if err := os.WriteFile(path, []byte(kept), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e := byName(t, home, "")
		found := slices.ContainsFunc(e.Diagnostics, func(d quadlet.Diagnostic) bool { return want != "" && strings.Contains(d.Message, want) })
		if e.Refused() != (want != "") || e.Refused() && !found {
			t.Errorf("%q: %v, want %q", kept, e.Diagnostics, want)
		}
	}
}

// Podman splits what NetworkAlias= says at commas (--network-alias in podman-run(1)),
// and the options of --network, too: an alias is no other option.
func TestAliases(t *testing.T) {
	e := byName(t, t.TempDir(), "ContainerName=web\nNetwork=front\nNetworkAlias=a,ip=10.89.0.1")
	if want := []string{"web", "a", "ip=10.89.0.1"}; e.Refused() || !slices.Equal(e.standIn.names, want) {
		t.Errorf("%q, want %q; %v", e.standIn.names, want, e.Diagnostics)
	}
}
