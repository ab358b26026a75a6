package attack

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// Units of other people may have such names as zerolet's have: NAME.service and
// NAME-proxy.service, each of which has nothing to do with a container. The
// command stops none of them: what is zerolet's is what its generator wrote.
func TestStrangersUnits(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		container := func(name string, lines ...string) {
			h.PutFile(name+".container", "[Container]\nImage="+image+"\nExec=-http :80\n"+strings.Join(lines, "\n")+"\n")
		}
		port := func(n int) string { return fmt.Sprintf("PublishPort=%d:80\n[ScaleToZero]", h.Port+n) }
		unit := func(name, text string) { h.PutFile(path.Join(h.UnitDir, name), text) }
		const runs = "[Service]\nExecStart=sleep infinity\n"
		names := []string{"removed", "reloaded", "socket", "source", "stock", "refused", "dependency", "declared"}
		var units []string
		for _, name := range names {
			unit(name+".service", runs)
			unit(name+"-proxy.service", runs)
			units = append(units, name+".service", name+"-proxy.service")
		}
		unit("source-proxy.service", "[Unit]\nSourcePath="+path.Join(h.QuadletDir, "source.container")+"\n"+runs)
		unit("socket-proxy.socket", "[Socket]\nListenStream=%t/socket.sock\nService=socket.service\n")
		h.Must(t, "rm", path.Join(h.UnitDir, "stock-proxy.service"))
		container("stock-proxy") // of stock Quadlet, which does not scale
		h.Reload()
		h.Control(append([]string{"start", "socket-proxy.socket"}, units...)...)

		h.Must(t, "rm", path.Join(h.UnitDir, "reloaded-proxy.service"), path.Join(h.UnitDir, "socket-proxy.socket"))
		container("refused", port(20), "Idel=1s")
		container("dependency", "[ScaleToZero]")
		container("declared", port(30))
		h.Reload()
		h.Must(t, "rm", path.Join(h.UnitDir, "removed-proxy.service"))
		container("declared", port(40)) // has to listen elsewhere
		for _, args := range [][]string{
			{"apply", "--now", "--force"}, {"sleep", "--force", "declared"}, {"sleep", "--force", "refused"}, {"apply", "--now", "--force"},
		} {
			out, _ := h.Session.Run(t.Context(), append([]string{"timeout", "60", "zerolet"}, args...)...) // may well find fault
			t.Logf("zerolet %s:\n%s%s", strings.Join(args, " "), out.Stdout, out.Stderr)
			for _, unit := range units {
				if state := h.State(unit); state != "active" {
					t.Errorf("after zerolet %s %s is %s", strings.Join(args, " "), unit, state)
				}
			}
		}
	})
}
