package knative

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// exported is the export of a text, and the Service in YAML.
func exported(t *testing.T, text string) (Export, string) {
	t.Helper()
	f, _ := quadlet.Parse("/web.container", []byte(text))
	if !scale.HasSection(f) {
		return Export{}, ""
	}
	spec, _ := scale.Read(f, quadlet.Search{Manager: quadlet.User})
	x := New(spec, func(string) (*quadlet.File, bool) { return nil, false })
	var b bytes.Buffer
	if err := Write(&b, []Export{x}); err != nil {
		t.Fatal(err)
	}
	return x, b.String()
}

func told(x Export) string {
	var b strings.Builder
	for _, d := range x.Diagnostics {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

const web = "[Container]\nImage=docker.io/library/nginx:1\nPublishPort=8080:80\n[ScaleToZero]\n"

// The keys of [ScaleToZero] that have an equivalent, and those that have none.
func TestScaling(t *testing.T) {
	for _, test := range []struct{ line, yaml, told string }{
		{"MaxConnections=20", "containerConcurrency: 20\n", "requests at a time"},
		{"MaxConnections=2\nMaxConnections=3", "containerConcurrency: 3\n", ":6:1: note"},
		{"MaxConnections=5000", "containerConcurrency: 1000\n", "at most 1000 requests"},
		{"MaxConnections=0", "    spec:\n      timeoutSeconds", "no longer to 8080:80"},
		{"ReadyCheck=http:/healthz?x=1", "readinessProbe:\n            httpGet:\n              path: /healthz?x=1\n", "no longer to 8080:80"},
		{"ReadyCheck=tcp", "ports:", "no longer to 8080:80"},
		{"ReadyCheck=none", "ports:", "Knative waits until the port is open"},
		{"ReadyCheck=http:/\n[Container]\nHealthCmd=true", "path: /\n", "HealthCmd= is not exported"},
		{"ReadyCheck=http:/\n[Container]\nHealthCmd=true\nHealthOnFailure=kill", "livenessProbe:\n            exec:", ""},
		{"Mode=native", "", "Mode= has no equivalent"},
		{"AllowFrom=10.0.0.0/8", "", "AllowFrom= has no equivalent"},
		{"ProxyProtocol=v2", "", "ProxyProtocol= has no equivalent"},
		{"ClientAddress=proxy", "", "clients in X-Forwarded-For"},
		{"ConnectionIdleTimeout=1min", "", "ConnectionIdleTimeout= has no equivalent"},
		{"SocketMode=0600", "", "is about a unix socket"},
		{"Listen=%t/web.sock:80", "networking.knative.dev/visibility: cluster-local", "listens on this machine only"},
		{"Listen=proxy:8096:80", "containerPort: 80\n", "and no longer to proxy:8096:80"},
		{"Listen=8080:/run/app.sock", "", "no TCP port for Knative to serve"},
		{"Listen=8080:80\nListen=5353:53/udp", "containerPort: 80\n", "warning: udp has no equivalent in Knative: 5353:53/udp"},
		{"Listen=5353:53/udp", "", "error: no TCP port for Knative to serve"},
		{"[Container]\nPublishPort=", "", "error: a container without a port"},
		{"Listen=8080:80\nListen=8443:443", "containerPort: 80\n", "a second port is not exported: 8443:443"},
	} {
		x, text := exported(t, web+test.line+"\n")
		if !strings.Contains(text, test.yaml) || !strings.Contains(told(x), test.told) {
			t.Errorf("%s: want %q and %q in\n%s%s", test.line, test.yaml, test.told, text, told(x))
		}
	}
}

// What a key is said to become is in the Service, and the default is no loss.
func TestEquivalents(t *testing.T) {
	_, text := exported(t, web+"MaxConnections=20\nReadyCheck=http:/\n")
	for _, k := range scale.Keys() {
		for _, as := range k.Export.As {
			if !strings.Contains(text, as) {
				t.Errorf("%s= is not exported as %s:\n%s", k.Name, as, text)
			}
		}
		if x, _ := exported(t, web+k.Name+"="+k.Default+"\n"); strings.Contains(told(x), k.Name) {
			t.Errorf("%s=%s changes nothing, and is told of:\n%s", k.Name, k.Default, told(x))
		}
	}
}

// Names are those of DNS, whatever they were, and no two are one.
func TestNames(t *testing.T) {
	for name, want := range map[string]string{
		"web": "web", "Web_App.1": "web-app-1", "9lives": "lives", "--x--": "x", "": "", "123": "", "é": "",
		strings.Repeat("a", 80): strings.Repeat("a", 63), strings.Repeat("a", 62) + "--b": strings.Repeat("a", 62),
	} {
		if got := label(name); got != want {
			t.Errorf("%q: %q, not %q", name, got, want)
		}
	}
	taken := make(map[string]bool)
	for range 200 {
		name := unique(strings.Repeat("n", 63), func(s string) bool { return taken[s] })
		if taken[name] || len(name) > 63 || name != label(name) {
			t.Fatalf("%q", name)
		}
		taken[name] = true
	}
}

// FuzzExport: whatever a file says, the export does not panic and is YAML.
func FuzzExport(f *testing.F) {
	for _, lines := range []string{
		"", "MaxConnections=1", "[Container]\nVolume=a:/b:ro,z\nMount=type=tmpfs,dst=/x\nTmpfs=/y:size=1m", "[Container]\nSecret=a,type=env,target=B\nEnvironment=A=\"b c\"",
		"[Container]\nHealthCmd=[\"a\",\"b\"]\nHealthInterval=3s\nHealthStartupCmd=x", "[Container]\nPodmanArgs=--cpus=1 -m 3g\nExec=%n $X '${Y}'", "[Container]\nUser=1:2\nMemory=.5g\nLabel=a=b",
	} {
		f.Add(lines)
	}
	f.Fuzz(func(t *testing.T, lines string) {
		_, text := exported(t, web+lines)
		for d := yaml.NewDecoder(strings.NewReader(text)); ; {
			var document map[string]any
			if err := d.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
		}
	})
}
