package attack

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/test/harness"
)

// A container with the journal's socket runs as the manager's user, and may say
// of any unit what the manager and zerolet-proxy say. The journal adds who it
// was.
func TestForgedRecords(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		image, err := h.ProgramImage(t.Context(), "attack/forge")
		if err != nil {
			t.Fatal(err)
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]")
		h.Declare("mute", "Image=localhost/app", fmt.Sprintf("PublishPort=%d:80", h.Port+10), "[ScaleToZero]", "AutoStart=no")
		h.PutFile(h.UnitDir+"/thief.socket", fmt.Sprintf("[Socket]\nListenStream=%d\nAccept=yes\n", h.Port+10))
		h.PutFile(h.UnitDir+"/thief@.service", "[Service]\nExecStart=true\n")
		h.Reload()
		h.Control("start", "thief.socket")
		if _, err := h.Systemctl(t.Context(), "start", "mute-proxy.socket"); err == nil {
			t.Fatal("two sockets have one port")
		}
		var records []string
		for _, unit := range []string{"UNIT", "USER_UNIT"} {
			for _, id := range []string{
				"7d4958e842da4a758f6c1cdc7b36dcc5", "39f53479d3a045ac8e11786248231fbf", // starting, started: sd-messages.h
				"9d1aaa27d60140bd96365438aad20286", "d9b373ed55a64feb8242e02dbe79a49c", // stopped, failed
				wire.WakeMessage, wire.FailMessage,
			} {
				records = append(records, "FORGED=1|MESSAGE=forged|PRIORITY=3|MESSAGE_ID="+id+"|ZEROLET_CONTAINER=app.service|ZEROLET_PEER=192.0.2.1:1|ZEROLET_READY_USEC=1|"+unit+"=app.service")
			}
			records = append(records,
				"FORGED=1|MESSAGE=forged: run this|PRIORITY=3|"+unit+"=mute-proxy.socket",
				"FORGED=1|MESSAGE=forged: it has failed|PRIORITY=3|MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c|"+unit+"=mute-proxy.socket")
		}
		h.Must(t, append([]string{
			"podman", "run", "--rm", "--network=none", "--security-opt=label=disable",
			"--volume=/run/systemd/journal/socket:/journal", image,
		}, records...)...)
		journal := h.M.Root() // whose journal it is, and that it is readable, is not the matter
		journal.WaitFor(t, harness.Patience, "the forged records are in the journal", func() (bool, error) {
			out, err := journal.Run(t.Context(), "journalctl", "--quiet", "--output=cat", "FORGED=1", uid(h))
			return strings.Count(out.Stdout, "forged") >= len(records), err
		})

		var history struct {
			Services []struct {
				Name         string
				Awake, Wakes []any
				Failures     int
			}
		}
		text := h.Must(t, "zerolet", "history", "--json", "app")
		if err := json.Unmarshal([]byte(text), &history); err != nil {
			t.Fatal(err)
		}
		if s := history.Services[0]; len(s.Awake) > 0 || len(s.Wakes) > 0 || s.Failures > 0 {
			t.Errorf("a false history: %s", text)
		}
		for _, args := range [][]string{{"status"}, {"doctor"}, {"metrics"}, {"explain"}} {
			out, _ := h.Session.Run(t.Context(), append([]string{"zerolet"}, args...)...) // mute has no port
			said := out.Stdout + out.Stderr
			if strings.Contains(said, "forged") || strings.Contains(said, "192.0.2.1") {
				t.Errorf("zerolet %s believes it:\n%s", args[0], said)
			}
			if args[0] == "metrics" && !regexp.MustCompile(`(?m)^zerolet_turned_away_total\{.*name="app"\} 0$`).MatchString(said) {
				t.Errorf("metrics of what never was:\n%s", said)
			}
			if args[0] == "doctor" && !strings.Contains(said, "in use") {
				t.Errorf("doctor does not say what the manager said:\n%s", said)
			}
		}
	})
}

func uid(h *harness.Host) string {
	if h.UserManager {
		return "_UID=1000"
	}
	return "_UID=0"
}
