package attack

import (
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// The proxy takes listening sockets from the stand-in, and from nobody else: whoever
// can bring it sockets can be the app's clients, and learns when it is awake.
func TestStandInSocket(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		b := harness.NewBridge(h)
		b.Name("ContainerName=web", "Network=proxy.network", "[ScaleToZero]", "Listen=proxy.network:8096:80", "IdleTimeout=1s")
		path := b.RuntimeDir + "/zerolet-standin/app/proxy"
		const connect = `use Socket; $SIG{PIPE} = "IGNORE"; socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die; connect($s, pack_sockaddr_un($ARGV[0])) or die "connect: $!"; ` +
			`syswrite($s, "\0"); my $n = sysread($s, my $answer, 1); print defined $n ? $n : $!;`
		if !h.UserManager {
			if out, err := h.M.User().Run(t.Context(), "perl", "-e", connect, path); err == nil {
				t.Errorf("a user has reached root's proxy: %s", out.Stdout)
			}
		}
		if got := b.Must(t, "perl", "-e", connect, path); got != "0" && !strings.Contains(got, "reset") {
			t.Errorf("who is not the stand-in is answered %q", got)
		}
		h.Wait("the journal says so", func() bool {
			text, err := h.Journal(t.Context(), "app-proxy.service")
			return err == nil && strings.Contains(text, "has connected: not in the container's unit")
		})
		b.Of("web:8096")
		b.Asleep()

		// The stand-in itself can do nothing but what it is for.
		format := "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}} {{.HostConfig.SecurityOpt}} {{len .Mounts}} {{len .NetworkSettings.Networks}}"
		if got := b.Must(t, "podman", "inspect", "--format", format, "systemd-app-standin"); !strings.HasPrefix(got, "true [] ") ||
			!strings.Contains(got, "no-new-privileges") || !strings.HasSuffix(got, "] 1 1") {
			t.Errorf("the stand-in is %s", got)
		}
		if got := b.Must(t, "ls", b.RuntimeDir+"/zerolet-standin/app"); got != "proxy" {
			t.Errorf("what is mounted into it has %q", got)
		}
	})
}
