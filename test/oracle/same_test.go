package oracle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/test/corpus"
)

// vocabulary are keys of [Container] that any file may have, among them those
// that Quadlet keeps in maps.
var vocabulary = []string{
	"AddCapability=CAP_NET_ADMIN", "AddDevice=/dev/null", "AddHost=one:192.0.2.1", "AddHost=two:192.0.2.2",
	"Annotation=a=1 b=2", "AutoUpdate=registry", "ContainersConfModule=/etc/m.conf", "DNS=192.0.2.53", "DNSOption=ndots:1",
	"DNSSearch=example.com", "DropCapability=all", "Environment=ONE=1 TWO=2", "EnvironmentHost=yes", "GroupAdd=keep-groups",
	"HealthCmd=/bin/true", "HealthInterval=1min", "HealthRetries=2", "HostName=web", "IP=10.88.0.9", "Label=l1=1 l2=2",
	"LogDriver=journald", "Mask=/proc/x", "NoNewPrivileges=yes", "Notify=healthy", "PidsLimit=100", "Pull=never",
	"ReadOnly=yes", "ReadOnlyTmpfs=no", "RunInit=yes", "SecurityLabelDisable=yes", "ShmSize=128m", "StopSignal=SIGINT",
	"StopTimeout=20", "Sysctl=net.core.somaxconn=1024", "Timezone=local", "Tmpfs=/tmp", "Tmpfs=/run", "Ulimit=nofile=1000:1000",
	"Unmask=ALL", "User=1000", "Volume=/srv:/srv", "Volume=/opt:/opt", "WorkingDir=/",
}

// some are keys of the vocabulary, each at most once.
func some(r *rand.Rand) string {
	var lines []string
	for _, i := range r.Perm(len(vocabulary))[:r.IntN(12)] {
		lines = append(lines, vocabulary[i])
	}
	return strings.Join(lines, "\n")
}

// TestSameEachTime plans the corpus again and again, with keys added at random:
// nothing has changed, in whatever order Quadlet writes its options. What was
// edited has.
func TestSameEachTime(t *testing.T) {
	const looks, seed = 8, 20261126
	for _, o := range oracles() {
		if !o.own {
			continue
		}
		bin := o.build(t)
		for _, m := range []quadlet.Manager{quadlet.System, quadlet.User} {
			t.Run(fmt.Sprintf("%s/%s", o.version, m), func(t *testing.T) {
				copied := func(more string) string {
					r := rand.New(rand.NewPCG(seed, 1))
					dir, _ := corpus.Copy(t, func(i int, _ string) string {
						return fmt.Sprintf("[Container]\n%s\n%s\n[ScaleToZero]\nListen=127.0.0.1:%d:80\n", some(r), more, 20000+i)
					})
					return dir
				}
				dir := copied("")
				first := texts(t, bin, dir, m)
				shuffled := make(map[string]bool)
				for range looks {
					for name, u := range unitsOf(t, bin, dir, m) {
						if !bytes.Equal(u.Text(), first[name]) {
							shuffled[name] = true
						}
						if !u.Same(first[name]) {
							t.Errorf("%s has changed:\n%s\nwas\n%s", name, u.Text(), first[name])
						}
					}
				}
				t.Logf("%d of %d units are written in another order at times", len(shuffled), len(first))
				if len(first) < 100 || len(shuffled) == 0 {
					t.Errorf("only %d units, %d of them in another order at times", len(first), len(shuffled))
				}
				edited := 0
				other := copied("Environment=EDITED=1")
				for name, u := range unitsOf(t, bin, other, m) {
					text := bytes.ReplaceAll(first[name], []byte(dir), []byte(other))
					if !bytes.Contains(u.Text(), []byte("EDITED=1")) {
						continue // of the proxy
					}
					edited++
					if u.Same(text) {
						t.Errorf("%s was edited, and is taken for the same", name)
					}
				}
				if edited < 20 {
					t.Errorf("only %d units were edited", edited)
				}
			})
		}
	}
}

func texts(t *testing.T, bin, dir string, m quadlet.Manager) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	for name, u := range unitsOf(t, bin, dir, m) {
		out[name] = u.Text()
	}
	return out
}

// unitsOf are the units that are files, by their names.
func unitsOf(t *testing.T, bin, dir string, m quadlet.Manager) map[string]generator.Unit {
	t.Helper()
	plan := planOf(t, bin, dir, m)
	out := make(map[string]generator.Unit)
	for _, u := range plan.Units(generator.Layout{Proxy: "/usr/libexec/zerolet/zerolet-proxy", Zerolet: "/usr/bin/zerolet"}) {
		if u.Link == "" {
			out[u.Name] = u
		}
	}
	for _, d := range plan.All() {
		if d.Severity == quadlet.Error && d.Pos.Line == 0 {
			t.Errorf("an error without a line: %v", d)
		}
	}
	return out
}
