package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Instances of a template sleep and wake by themselves: those that are links, each with
// its own drop-ins, and the default one. Every verb takes them.
func TestInstances(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		first, second, third := h.Port, h.Port+10, h.Port+20
		template := func(name, more string) {
			h.PutFile(name+"@.container", "[Container]\nImage="+image+"\nExec=-http :80\nPublishPort=%i:80\n[ScaleToZero]\nIdleTimeout=1s\n"+more)
		}
		template("site", "Listen=%i:80\nListen=%t/%p-%i.sock:80\n[Install]\nWantedBy=default.target\n")
		template("one", fmt.Sprintf("[Install]\nWantedBy=default.target\nDefaultInstance=%d\n", third))
		for _, port := range []int{first, second} {
			h.Must(t, "ln", "-s", "site@.container", fmt.Sprintf("%s/site@%d.container", h.QuadletDir, port))
		}
		h.PutFile(fmt.Sprintf("site@%d.container.d/slow.conf", second), "[ScaleToZero]\nIdleTimeout=infinity\n")
		h.PutFile("site@.container.d/name.conf", "[Container]\nEnvironment=NAME=%i\n")
		// What a user says of all instances is not about their proxies.
		h.PutFile(h.UnitDir+"/site@.service.d/limits.conf", "[Service]\nEnvironment=MINE=1\n")

		if out := h.Must(t, "zerolet", "check"); !strings.Contains(out, fmt.Sprintf("site@%d.service: listens on %d %s/site-%[1]d.sock, stops 1s after", first, first, "%t")) {
			t.Errorf("check: %s", out)
		}
		h.Must(t, "zerolet", "apply")
		if again := h.Must(t, "zerolet", "apply"); !strings.Contains(again, "nothing to do: 3 services as declared") {
			t.Errorf("apply: %s", again)
		}
		h.Control("start", "default.target")
		ids := make(map[string]bool)
		for name, port := range map[string]int{"site": first, "site ": second, "one": third} {
			name = strings.TrimSpace(name)
			service, proxy := fmt.Sprintf("%s@%d.service", name, port), fmt.Sprintf("%s-proxy@%d.service", name, port)
			h.Expect(service, "inactive")
			id := h.Must(t, "curl", "-sS", fmt.Sprintf("http://localhost:%d/", port))
			ids[id] = true
			if name == "site" && (!strings.Contains(h.Property(service, "Environment"), "MINE=1") || strings.Contains(h.Property(proxy, "Environment"), "MINE=1")) {
				t.Errorf("Environment=%s of the service, %s of the proxy", h.Property(service, "Environment"), h.Property(proxy, "Environment"))
			}
			if port != second {
				h.WaitState(service, "inactive")
			}
			h.Expect(fmt.Sprintf("%s-proxy@%d.socket", name, port), "active")
		}
		if len(ids) != 3 {
			t.Errorf("%d apps have answered for 3 instances", len(ids))
		}
		h.Must(t, "curl", "-sS", "--unix-socket", fmt.Sprintf("%s/site-%d.sock", h.RuntimeDir, first), "http://localhost/")
		h.Expect(fmt.Sprintf("site@%d.service", second), "active")

		name := fmt.Sprintf("site@%d", second)
		for _, verb := range []string{"status", "sleep --force", "wake", "explain", "history", "metrics", "render", "check", "doctor"} {
			words := append([]string{"zerolet"}, strings.Fields(verb)...)
			if verb != "doctor" {
				words = append(words, name)
			}
			if out := h.Must(t, words...); verb != "doctor" && !strings.Contains(out, name) {
				t.Errorf("%s: %s", verb, out)
			}
		}
		h.Unused(name)
		h.Must(t, "zerolet", "sleep", name)
		h.WaitState(fmt.Sprintf("site@%d.service", first), "inactive") // its idle time may last until now
		nothingLeft(h)
		// One that is not there any more stops, and no other.
		h.Must(t, "rm", fmt.Sprintf("%s/%s.container", h.QuadletDir, name))
		if out := h.Must(t, "zerolet", "apply"); !strings.Contains(out, "- "+name+": is not declared any more: stops") || strings.Count(out, "\n") > 1 {
			t.Errorf("apply: %s", out)
		}
		h.Must(t, "curl", "-sS", fmt.Sprintf("http://localhost:%d/", first))
	})
}
