package attack

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
)

// The entry has the keys to a rootful container's network. A user cannot get as
// far as to its socket; whoever does, and is not the proxy, is given nothing,
// and keeps nobody out.
func TestEntryServesTheProxyAlone(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		if h.UserManager {
			t.Skip("a user's proxy needs no entry")
		}
		h.App("app", "-http :80", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		h.MustGet()
		const entry = "/run/zerolet-entry/app"
		const ask = `use Socket; $SIG{PIPE} = "IGNORE"; socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die; connect($s, pack_sockaddr_un($ARGV[0])) or die "connect: $!"; ` +
			`syswrite($s, "\xff\x00"); my $n = sysread($s, my $answer, 512); print defined $n ? $n : $!;`
		if out, err := h.M.User().Run(t.Context(), "perl", "-e", ask, entry); err == nil {
			t.Errorf("a user has reached the entry: %s", out.Stdout)
		}
		// The proxy's own entry is at work: systemd starts another for who comes next.
		h.Control("kill", "--signal=KILL", "app-entry.service")
		out, err := h.Session.Run(t.Context(), "perl", "-e", ask, entry)
		if err != nil || out.Stdout != "0" && !strings.Contains(out.Stdout, "reset") {
			t.Errorf("root, who is not the proxy, is answered %q, %v", out.Stdout, err)
		}
		h.Wait("the journal says so", func() bool {
			text, err := h.Journal(t.Context(), "app-entry.service")
			return err == nil && strings.Contains(text, "is not the proxy")
		})
		h.MustGet()
		c.Close()
		h.Asleep()
	})
}

// containers.conf puts the container into the host's network, which its file
// does not say. Somebody else listens there on the app's port.
func TestHostNetworkByConfiguration(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		stop := evil(h, "127.0.0.1:80")
		defer stop()
		h.Must(t, "sh", "-c", `mkdir -p ~/.config/containers /etc/containers/containers.conf.d; `+
			`printf '[containers]\nnetns = "host"\n' >"$(test $(id -u) = 0 && echo /etc/containers/containers.conf.d/host.conf || echo ~/.config/containers/containers.conf)"`)
		h.App("app", "-http :8099", h.Publish(), "[ScaleToZero]", "IdleTimeout=1s")
		c := h.Connect()
		said := make(chan string, 1)
		go func() { said <- ask(c) }()
		h.Wait("the client is answered, or the journal says why not", func() bool {
			text, err := h.Journal(t.Context(), "app-proxy.service")
			return len(said) > 0 || err == nil && strings.Contains(text, "in the network of the host")
		}, "app-proxy.service")
		leave(c)
		if got := <-said; got != "" {
			t.Errorf("the client was answered by %q", got)
		}
		h.Asleep() // the app's port is the other manager's, too
	})
}

// evil answers every request with its name, on a port of the host.
func evil(h *harness.Host, address string) (stop func()) {
	h.Helper()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "evil") })}
	go server.Serve(onHost(h, address))
	return func() { server.Close() }
}

// onHost listens in the machine's own network.
func onHost(h *harness.Host, address string) net.Listener {
	h.Helper()
	var l net.Listener
	err := h.M.Network(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	return l
}
