package main

import (
	"bytes"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/internal/release"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// generate runs the generator as systemd does, on the given files.
func generate(t *testing.T, manager string, files map[string]string) (status int, out string) {
	t.Helper()
	source, out := t.TempDir(), t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	getenv := func(name string) string { return map[string]string{"QUADLET_UNIT_DIRS": source}[name] }
	args := []string{"/lib/zerolet-" + manager + "-generator"}
	for _, dir := range []string{"normal", "early", "late"} {
		args = append(args, filepath.Join(out, dir))
	}
	return run(args, getenv, io.Discard, &bytes.Buffer{}), out
}

const web = "[Container]\nImage=localhost/web\nPublishPort=8080:80\nPublishPort=127.0.0.1:8443:443\n" +
	"[ScaleToZero]\nIdleTimeout=90s\nStartTimeout=infinity\n[Install]\nWantedBy=default.target\n"

func TestVersion(t *testing.T) {
	var out, errs bytes.Buffer
	if status := run([]string{"zerolet-generator", "--version"}, nil, &out, &errs); status != 0 ||
		out.String() != "zerolet-generator "+release.Version()+"\n" || errs.Len() > 0 {
		t.Errorf("status %d: %s%s", status, &out, &errs)
	}
}

// options are all keys that become options of the proxy.
const options = "[ScaleToZero]\nReadyCheck=http:/a%20b\nProxyProtocol=v1\nClientAddress=proxy\nMaxConnections=9\nAllowFrom=::1 192.0.2.0/24\nConnectionIdleTimeout=1h\n"

// What the generator writes in ExecStart= is what the proxy reads.
func TestCommandLine(t *testing.T) {
	for manager, pidFile := range map[string]string{"system": "", "user": "/run/user/1000/web.pid"} {
		status, out := generate(t, manager, map[string]string{"web.container": web + options})
		if status != 0 {
			t.Fatalf("%s: status %d", manager, status)
		}
		f, _ := quadlet.ReadFile(filepath.Join(out, "normal/web-proxy.service"))
		line, ok := f.Last("Service", "ExecStart")
		if !ok || !strings.HasPrefix(line.Value, ":") {
			t.Fatalf("%s: ExecStart=%s", manager, line.Value)
		}
		words := strings.Fields(strings.NewReplacer("%t/zerolet-entry", "/run/zerolet-entry", "%t", "/run/user/1000", "%%", "%").Replace(line.Value))
		got, err := wire.ParseArgs(words[1:])
		if err != nil {
			t.Fatal(err)
		}
		entry := ""
		if manager == "system" {
			entry = "/run/zerolet-entry/web"
		}
		want := wire.Config{
			Container: "web.service", PIDFile: pidFile, Entry: entry,
			IdleTimeout: 90 * time.Second, StartTimeout: wire.Infinity, DrainTimeout: 10 * time.Second,
			ReadyCheck: "/a%20b", Started: []string{"/run/user/1000/web.pid"}, ProxyProtocol: 1, HideClient: true, MaxConnections: 9, ConnectionIdleTimeout: time.Hour,
			AllowFrom: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.0/24")},
		}
		if manager == "user" {
			want.Start = "web-wake.target"
		}
		if want.Forwards = got.Forwards; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", manager, got, want)
		}
		var listen []netip.AddrPort
		for _, f := range got.Forwards {
			listen = append(listen, f.Listen.IP)
			if f.Target.IP.Port() != 80 && f.Target.IP.Port() != 443 || !f.Target.IP.Addr().IsLoopback() {
				t.Errorf("%s: %s leads to %s", manager, f.Listen, f.Target)
			}
		}
		if !slices.Equal(listen, []netip.AddrPort{netip.MustParseAddrPort("[::]:8080"), netip.MustParseAddrPort("127.0.0.1:8443")}) {
			t.Errorf("%s: listens on %v", manager, listen)
		}
	}
}

// Every file is where systemd looks for it, and nothing else is left.
func TestFiles(t *testing.T) {
	status, out := generate(t, "user", map[string]string{
		"web.container": web,
		"bad.container": "[Container]\nImage=localhost/bad\nPublishPort=8081:80\n[ScaleToZero]\nIdel=1\n",
		"evil.container": "[Container]\nImage=localhost/evil\nServiceName=../../evil\nPublishPort=8082:80\n[ScaleToZero]\n" +
			"[Install]\nWantedBy=../../evil.target\n",
		"plain.container": "[Container]\nImage=localhost/plain\n",
	})
	if status != 1 {
		t.Errorf("status %d with a bad file, want 1", status)
	}
	var got []string
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, strings.TrimPrefix(path, out+"/"))
		}
		return err
	})
	want := []string{
		"early/bad.service",
		"early/default.target.wants/web.service",
		"early/web.service",
		"normal/default.target.wants/web-proxy.socket",
		"normal/paths.target.d/50-zerolet.conf",
		"normal/sockets.target.d/50-zerolet-web.conf",
		"normal/web-proxy.service",
		"normal/web-proxy.socket",
		"normal/zerolet-removed.path",
		"normal/zerolet-removed.service",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\ngot  %q\nwant %q", err, got, want)
	}
}

func TestNothingToDo(t *testing.T) {
	status, out := generate(t, "system", map[string]string{"plain.container": "[Container]\nImage=localhost/plain\n"})
	if entries, err := os.ReadDir(out); status != 0 || err != nil || len(entries) != 0 {
		t.Errorf("status %d, wrote %v, %v", status, entries, err)
	}
}

func TestUsage(t *testing.T) {
	var stderr bytes.Buffer
	if status := run([]string{"zerolet-generator"}, os.Getenv, io.Discard, &stderr); status != 2 || !strings.Contains(stderr.String(), "NORMAL-DIR") {
		t.Errorf("status %d: %s", status, &stderr)
	}
}
