package command

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// TestApplyInterrupted: Ctrl-C ends apply at once, while it waits for a socket,
// and the others are left for the next time.
func TestApplyInterrupted(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		for _, name := range []string{"a", "b"} {
			h.PutFile(name+".container", "[Container]\nImage=localhost/"+name+"\n[ScaleToZero]\nListen=/tmp/"+h.Name+name+".sock:80\n")
			h.PutFile(h.UnitDir+"/"+name+"-proxy.socket.d/slow.conf", "[Socket]\nExecStartPre=/bin/sleep infinity\nTimeoutSec=infinity\n")
		}
		cmd := h.Command(t.Context(), "sh", "-c", "echo $$; exec zerolet apply")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		lines.Scan()
		pid := lines.Text()
		h.Wait("apply waits for a job", func() bool {
			children, err := h.Session.Run(t.Context(), "pgrep", "--parent", pid, "--full", "^systemctl .*start -- a-proxy.socket$")
			return err == nil && children.Stdout != ""
		})
		h.Must(t, "kill", "-INT", pid)
		for lines.Scan() {
		}
		if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("zerolet apply: %v", err)
		}
		if got := stderr.String(); !strings.HasPrefix(got, "zerolet: error: interrupted\n") {
			t.Errorf("zerolet apply says %q", got)
		}
		h.Control("stop", "--no-block", "a-proxy.socket", "b-proxy.socket")
	})
}
