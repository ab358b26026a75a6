package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// The app is reached in every network, and as every user, that Podman gives a
// container. With Network=host it has another port than the socket.
func TestNetworks(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		h.PutFile("own.network", "[Network]\n")
		cases := []string{"Network=bridge", "Network=own.network", "Network=host", "User=1234"}
		if h.UserManager {
			cases = append(cases, "Network=pasta", "Network=none", "UserNS=auto", "UserNS=keep-id", "UserNS=nomap", "Network=own.network\nUserNS=keep-id")
		}
		for _, setting := range cases {
			t.Run(strings.ReplaceAll(setting, "\n", ","), func(t *testing.T) {
				h := *h
				h.T = t
				port := h.Port + 2000 // not every user may bind 80
				h.App("app", fmt.Sprintf("-http :%d", port), fmt.Sprintf("PublishPort=%d:%d", h.Port, port), setting,
					"[ScaleToZero]", "IdleTimeout=1s")
				h.MustGet()
				h.Asleep()
			})
		}
	})
}
