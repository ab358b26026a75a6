package reliability

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
)

// A sleeping service gets newer images from a real registry. The first wake of one
// that fails is answered by the one before, which remains until there is a newer
// one. What is awake is left to Podman, and a registry that is not as it should be
// is a matter of its own services.
func TestUpdate(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		registry, closed, unknown := fmt.Sprintf("127.0.0.1:%d", h.Port+1000), fmt.Sprintf("127.0.0.1:%d", h.Port+1100), fmt.Sprintf("127.0.0.1:%d", h.Port+1300)
		serveImages(h, registry, "http", "")
		serveImages(h, closed, "http", "auth: {htpasswd: {realm: lab, path: /config/users}}\n")
		serveImages(h, unknown, "https", "")
		name := registry + "/app:latest"

		first := pushImage(h, name, "LABEL version=1")
		h.Must(t, "podman", "pull", "--quiet", name)
		h.Declare("app", "Image="+name, "Exec=-http :80", h.Publish(), "AutoUpdate=registry", "Volume=data:/data", "[ScaleToZero]", "IdleTimeout=1h")
		others := map[string]string{ // services whose registry does not serve them
			"away": "127.0.0.1:1/app:latest", "closed": closed + "/app:latest", "unknown": unknown + "/app:latest",
			"slow": fmt.Sprintf("127.0.0.1:%d/app:latest", h.Port+1200), "short": "app",
		}
		h.PutFile(h.UnitDir+"/slow.socket", fmt.Sprintf("[Socket]\nListenStream=127.0.0.1:%d\n", h.Port+1200)) // nobody accepts
		h.PutFile(h.UnitDir+"/slow.service", "[Service]\nExecStart=sleep infinity\n")
		port := h.Port + 2000
		for other, image := range others {
			h.Must(t, "podman", "tag", name, image)
			h.Declare(other, "Image="+image, fmt.Sprintf("PublishPort=%d:80", port), "AutoUpdate=registry", "[ScaleToZero]")
			port++
		}
		h.Control("start", "slow.socket")

		wakes := func() int { return len(records(h, "MESSAGE_ID="+wire.WakeMessage, "ZEROLET_CONTAINER=app.service")) }
		wake := func(want string) {
			t.Helper()
			before := wakes()
			h.MustGet()
			h.Wait("the journal tells of the wake, by which its image is judged", func() bool { return wakes() > before }, "app-proxy.service")
			if got := strings.TrimSpace(h.Must(t, "podman", "inspect", "--format={{.Image}}", "systemd-app")); got != want {
				t.Errorf("the image %.12s serves, want %.12s\n%s", got, want, h.LastJournal())
			}
		}
		update := func(want string, args ...string) {
			t.Helper()
			if got, _ := updateResults(h, append(args, "app")...); got["app"] != want {
				t.Errorf("zerolet update %v: %q, want %q", args, got["app"], want)
			}
		}
		wake(first)
		update("awake")
		sleepNow(h)
		update("current")

		// Whatever else is asked fails by itself. The slow one is not waited for.
		results, reasons := updateResults(h, "app", "away", "closed", "unknown", "short")
		want := map[string]string{"app": "current", "away": "failed", "closed": "failed", "unknown": "failed", "short": "failed"}
		if !maps.Equal(results, want) {
			t.Errorf("updates: %v, want %v", results, want)
		}
		if results, more := updateResults(h, "--timeout=2s", "slow"); results["slow"] != "failed" {
			t.Errorf("a registry that does not answer: %v", results)
		} else {
			maps.Copy(reasons, more)
		}
		for other, reason := range map[string]string{
			"away": "connection refused", "closed": "authentication required", "unknown": "certificate",
			"short": "not the full name", "slow": "has not answered within 2s",
		} {
			if !strings.Contains(reasons[other], reason) {
				t.Errorf("%s: %q, want %q in it", other, reasons[other], reason)
			}
		}
		missingImages(h, name, registry+"/missing:latest")
		for other := range others {
			h.Must(t, "rm", h.QuadletDir+"/"+other+".container")
		}
		h.Must(t, "zerolet", "apply")

		second := pushImage(h, name, "LABEL version=2")
		update("newer", "--dry-run")
		if got := strings.TrimSpace(h.Must(t, "podman", "image", "inspect", "--format={{.Id}}", name)); got != first {
			t.Errorf("a dry run pulls %s", got)
		}
		update("updated")
		update("updated") // it has not been woken
		h.Must(t, "podman", "image", "prune", "--all", "--force")
		wake(second)
		sleepNow(h)
		h.Must(t, "podman", "image", "prune", "--all", "--force")
		if out, err := h.Session.Run(t.Context(), "podman", "image", "exists", first); err == nil {
			t.Errorf("the first image is kept for ever: %s", out.Stdout)
		}

		pushImage(h, name, `ENTRYPOINT ["/none"]`)
		update("updated")
		h.Must(t, "podman", "image", "prune", "--all", "--force")
		wake(second)
		h.WaitJournal("app.service", "the newer image of "+name+" has failed at its first start: back to the one before", 1)
		if status := h.Must(t, "zerolet", "status"); !strings.Contains(status, "app: the newer image of "+name+" has failed") {
			t.Errorf("status does not tell:\n%s", status)
		}
		sleepNow(h)
		rolledBack := func() {
			t.Helper()
			if out := h.Must(t, "zerolet", "history"); !strings.Contains(out, ", back to the older "+name+" ") {
				t.Errorf("history does not tell:\n%s", out)
			}
		}
		rolledBack()
		update("refused")
		wake(second)
		sleepNow(h)

		third := pushImage(h, name, "LABEL version=3")
		h.Control("start", "zerolet-update.service") // as its timer does
		diesBeforeItsRecord(h)
		sleepNow(h)
		wake(third)
		if status := h.Must(t, "zerolet", "status"); strings.Contains(status, "newer image") {
			t.Errorf("status still tells:\n%s", status)
		}
		sleepNow(h)
		rolledBack() // also when all is well again

		h.Declare("app", "Image="+name, "Exec=-http :80 -farewell", h.Publish(), "AutoUpdate=registry", "Volume=data:/data",
			"[ScaleToZero]", "IdleTimeout=1s", "Sleep=freeze", "StopAfter=infinity")
		h.Must(t, "zerolet", "apply")
		updateFrozen(h, name)
		h.Must(t, "rm", h.QuadletDir+"/app.container")
		h.Must(t, "zerolet", "apply")
		if left := h.Must(t, "sh", "-c", "ls /var/lib/zerolet/updates ~/.local/state/zerolet/updates 2>/dev/null || :"); strings.Contains(left, "app") {
			t.Errorf("left without the file: %s", left)
		}
		h.Must(t, "podman", "rm", "--all", "--force", "--time=0")
	})
}

// diesBeforeItsRecord has a container die that has served, of which the journal does not know yet. That is no failed
// first start: what its image has written may be of no use to the one before.
func diesBeforeItsRecord(h *harness.Host) {
	h.Helper()
	defer stopJournal(h)()
	served := h.MustGet()
	h.Wait("the proxy has told of its client", func() bool {
		_, reached, err := h.Connected("app")
		return err == nil && reached
	})
	h.Must(h.T, "podman", "kill", "systemd-app")
	h.Wait("another container serves", func() bool { id, err := h.Get(); return err == nil && id != served })
}

// Podman itself gets the newer image of a service that is frozen, and restarts it: the app hears of its end, and
// Podman does not wait for it in vain.
func updateFrozen(h *harness.Host, name string) {
	h.Helper()
	h.MustGet()
	h.Frozen("app")
	before := terms(h)
	newer := pushImage(h, name, "LABEL version=4")
	if said := h.Must(h.T, "podman", "auto-update", "--format={{.Unit}} {{.Updated}}"); !strings.Contains(said, "app.service true") {
		h.Errorf("podman auto-update: %s", said)
	}
	hasTerm(h, before)
	h.MustGet()
	if got := strings.TrimSpace(h.Must(h.T, "podman", "inspect", "--format={{.Image}}", "systemd-app")); got != newer {
		h.Errorf("the image %.12s serves, want %.12s\n%s", got, newer, h.LastJournal())
	}
	h.Frozen("app")
	h.Must(h.T, "zerolet", "sleep", "app") // the registries remain
	h.WaitState("app.service", "inactive")
}

// An image that is not here is pulled, so that the next wake need not, and kept. One
// that no registry has is said to be missing.
func missingImages(h *harness.Host, there, name string) {
	h.Helper()
	h.Must(h.T, "podman", "push", "--quiet", there, name)
	for i, lines := range [][]string{{"Image=" + name, "AutoUpdate=registry"}, {"Image=localhost/missing", "AutoUpdate=local"}} {
		h.Declare(fmt.Sprintf("missing%d", i), append(lines, fmt.Sprintf("PublishPort=%d:80", h.Port+2100+i), "[ScaleToZero]")...)
	}
	expect := func(want string, args ...string) {
		h.Helper()
		got, reasons := updateResults(h, append(args, "missing0", "missing1")...)
		if got["missing0"] != want || got["missing1"] != "failed" || !strings.Contains(reasons["missing1"], "image not known") {
			h.Errorf("zerolet update %v: %v %v, want %q", args, got, reasons, want)
		}
	}
	expect("newer", "--dry-run")
	if _, err := h.Session.Run(h.Context(), "podman", "image", "exists", name); err == nil {
		h.Error("a dry run pulls")
	}
	expect("updated")
	h.Must(h.T, "podman", "image", "prune", "--all", "--force")
	h.Must(h.T, "podman", "image", "exists", name)
	expect("current")
	h.Must(h.T, "rm", h.QuadletDir+"/missing0.container", h.QuadletDir+"/missing1.container")
	h.Must(h.T, "zerolet", "apply")
}

// serveImages runs a registry, on loopback and for tests alone. With https it has a
// certificate that nobody knows.
func serveImages(h *harness.Host, address, scheme, config string) {
	h.Helper()
	const image = "localhost/registry"
	if err := h.DebianImage(h.Context(), image, []string{"docker-registry"}); err != nil {
		h.Fatal(err)
	}
	name, tls := strings.ReplaceAll(address, ":", "-"), ""
	dir := h.Home + "/registry-" + name
	if scheme == "https" {
		tls = ", tls: {certificate: /config/cert.pem, key: /config/key.pem}"
		cert, key := selfSigned(h)
		h.PutFile(dir+"/cert.pem", cert)
		h.PutFile(dir+"/key.pem", key)
	} else {
		conf := fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", address)
		if err := h.M.Root().Put(h.Context(), "/etc/containers/registries.conf.d/"+name+".conf", conf); err != nil {
			h.Fatal(err)
		}
	}
	h.PutFile(dir+"/config.yml", "version: 0.1\nstorage: {filesystem: {rootdirectory: /tmp}}\n"+config+"http: {addr: '"+address+"'"+tls+"}\n")
	h.PutFile(dir+"/users", "user:$2y$05$abcdefghijklmnopqrstuuAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
	h.Must(h.T, "podman", "run", "--detach", "--network=host", "--volume="+dir+":/config", image, "/usr/bin/docker-registry", "serve", "/config/config.yml")
	h.Wait("the registry listens", func() bool {
		_, err := h.Session.Run(h.Context(), "curl", "--silent", "--show-error", "--insecure", scheme+"://"+address+"/v2/")
		return err == nil
	})
}

// selfSigned is a certificate and its key.
func selfSigned(h *harness.Host) (cert, key string) {
	h.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		h.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		h.Fatal(err)
	}
	block := func(kind string, bytes []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", secret)
}

// pushImage has a registry serve a changed app, of which nothing is left here. It
// returns the image's ID.
func pushImage(h *harness.Host, name, change string) string {
	h.Helper()
	app, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	container := strings.TrimSpace(h.Must(h.T, "podman", "create", app))
	id := strings.TrimSpace(h.Must(h.T, "podman", "commit", "--quiet", "--change="+change, container, "localhost/changed"))
	h.Must(h.T, "podman", "push", "--quiet", "localhost/changed", name)
	h.Must(h.T, "podman", "rm", container)
	h.Must(h.T, "podman", "rmi", "localhost/changed")
	return id
}

// updateResults are what zerolet update says became of each service, and why it has
// failed.
func updateResults(h *harness.Host, args ...string) (results, reasons map[string]string) {
	h.Helper()
	out, err := h.Session.Run(h.Context(), append([]string{"zerolet", "update", "--json"}, args...)...)
	var all struct {
		Services []struct{ Name, Result, Error string }
	}
	if e := json.Unmarshal([]byte(out.Stdout), &all); e != nil {
		h.Fatalf("zerolet update: %v: %v\n%s%s", err, e, out.Stdout, out.Stderr)
	}
	results, reasons = make(map[string]string), make(map[string]string)
	failed := false
	for _, s := range all.Services {
		results[s.Name], reasons[s.Name] = s.Result, s.Error
		failed = failed || s.Result == "failed"
		if (s.Result == "failed") != (s.Error != "") {
			h.Errorf("%s: %s: %q", s.Name, s.Result, s.Error)
		}
	}
	if failed != (err != nil) {
		h.Errorf("zerolet update: %v\n%s", err, out.Stdout)
	}
	return results, reasons
}
