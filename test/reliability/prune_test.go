package reliability

import (
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Podman prunes the network of a container that sleeps: nobody uses it. The next
// client is answered all the same, however the network's own file is made.
func TestPruned(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		for name, more := range map[string]string{
			"plain": "NetworkName=plain-net", "boot": "[Install]\nWantedBy=default.target", "stops": "[Service]\nExecStopPost=/bin/true",
			"bound": "",
		} {
			h.PutFile(name+".network", "[Network]\n"+more+"\n")
		}
		for _, name := range []string{"plain", "boot", "stops", "bound"} {
			lines := []string{h.Publish(), "Network=" + name + ".network", "[ScaleToZero]", "IdleTimeout=1s"}
			if name == "bound" {
				lines = append(lines, "[Unit]", "BindsTo=bound-network.service")
			}
			h.App("app", "-http :80", lines...)
			if name == "boot" {
				h.Control("start", "default.target")
			}
			for _, prune := range []string{"system", "network"} {
				first := h.MustGet()
				h.Asleep()
				h.Must(t, "podman", prune, "prune", "--force")
				if left := h.Must(t, "podman", "network", "ls", "--format", "{{.Name}}"); strings.Contains(left, name) {
					t.Fatalf("podman %s prune leaves the network %s:\n%s", prune, name, left)
				}
				if again := h.MustGet(); again == first {
					t.Error("the same container answers")
				}
				h.Asleep()
			}
		}
	})
}
