package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// on is the app's start id as it is answered on an address of the machine.
func on(h *harness.Host, address string) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), harness.Patience)
	defer cancel()
	c, err := h.M.Dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	id, err := io.ReadAll(c)
	return strings.TrimSpace(string(id)), err
}

func mustOn(h *harness.Host, address string) string {
	h.Helper()
	id, err := on(h, address)
	if err != nil || id == "" {
		h.Fatalf("%s: %q, %v\n%s", address, id, err, h.LastJournal())
	}
	return id
}

// A bare port answers on both families, as Podman publishes it; an address
// answers by itself; of a range, and of many ports in one file, each does. All
// of them are one container.
func TestAddresses(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		p, first := h.Port, 9000+10*(h.Port-8080)
		h.App("app", "-greet :80 -greet :81 -http :82 -greet :90 -greet :91 -greet :92",
			fmt.Sprintf("PublishPort=%d:80", p), fmt.Sprintf("PublishPort=[::1]:%d:81", p+10), fmt.Sprintf("PublishPort=127.0.0.2:%d:81", p+20), fmt.Sprintf("PublishPort=%d:82", p+30),
			fmt.Sprintf("PublishPort=%d-%d:90-92", first, first+2), fmt.Sprintf("PublishPort=0.0.0.0:%d:80", p+200), fmt.Sprintf("PublishPort=[::]:%d:80", p+300),
			"[ScaleToZero]", "IdleTimeout=1s")
		port := func(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }
		starts := make(map[string]bool)
		held, err := h.M.Dial(h.Context(), "tcp", h.Addr()) // one start for all of them
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{
			port("::1", p), port("127.0.0.1", p), port("::1", p+10), port("127.0.0.2", p+20),
			port("::1", first), port("127.0.0.1", first+1), port("127.0.0.1", first+2), port("127.0.0.1", p+200), port("::1", p+300),
		} {
			starts[mustOn(h, address)] = true
		}
		if len(starts) != 1 {
			t.Errorf("%d starts for ports of one container", len(starts))
		}
		keepsAwake(h, held, p+30)
		for _, address := range []string{port("127.0.0.1", p+10), port("127.0.0.1", p+20), port("::1", p+200), port("127.0.0.1", p+300)} {
			if id, err := on(h, address); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s answers %q, %v", address, id, err)
			}
		}
		h.Asleep()
	})
}

// keepsAwake asks one port for an answer that takes longer than the idle time, while nobody
// else is connected any more: the others lead to the same start before and after it.
func keepsAwake(h *harness.Host, held net.Conn, port int) {
	h.Helper()
	before := mustOn(h, h.Addr())
	c := h.ConnectTo(port)
	defer c.Close()
	if id := strings.TrimSpace(answered(h, c, "/")); id != before {
		h.Errorf("the port leads to %s, the others to %s", id, before)
	}
	held.Close()
	id := strings.TrimSpace(answered(h, c, "/sleep?for=2500ms"))
	if after := mustOn(h, h.Addr()); id != before || after != before {
		h.Errorf("the container has slept while a port was in use: %s, %s, then %s", before, id, after)
	}
}

// Wherever in the container the app listens, to either protocol and in any
// network, it is reached.
func TestListensOn(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		// Podman refuses a subnet that the other manager's bridge has.
		four, six := fmt.Sprintf("10.99.%d.", h.Port%10), fmt.Sprintf("fd99:%d::", h.Port%10)
		four2, six2 := fmt.Sprintf("10.98.%d.", h.Port%10), fmt.Sprintf("fd98:%d::", h.Port%10)
		h.PutFile("four.network", "[Network]\nSubnet="+four+"0/24\n")
		h.PutFile("six.network", "[Network]\nSubnet="+six+"/64\n")
		h.PutFile("internal.network", "[Network]\nInternal=true\n")
		h.PutFile("both.network", "[Network]\nIPv6=true\nSubnet="+four2+"0/24\nSubnet="+six2+"/64\n")
		type test struct {
			listen  string
			network []string
		}
		tests := []test{
			{four + "9:80", []string{"Network=four.network", "IP=" + four + "9"}},
			{":80", []string{"Network=both.network"}},
			{four2 + "9:80", []string{"Network=both.network", "IP=" + four2 + "9"}},
			{"127.0.0.1:80", []string{"Network=four.network"}},
			{"[::1]:80", []string{"Network=four.network"}},
			{"[" + six2 + "9]:80", []string{"Network=both.network", "IP6=" + six2 + "9"}},
			{":80", []string{"Network=six.network"}},
			{"[" + six + "9]:80", []string{"Network=six.network", "IP6=" + six + "9"}},
			{"127.0.0.1:80", []string{"Network=none"}},
			{"[::1]:80", []string{"Network=none"}},
			{":80", []string{"Network=internal.network"}},
		}
		for i, test := range tests {
			t.Run(strings.Join(append(test.network, test.listen), ","), func(t *testing.T) {
				h := *h
				h.T, h.Port = t, h.Port+10*i
				lines := append([]string{h.Publish(), h.Publish() + "/udp"}, test.network...)
				h.App(fmt.Sprintf("app%d", i), "-greet "+test.listen+" -udp "+test.listen,
					append(lines, "[ScaleToZero]")...)
				c := h.DialUDP("127.0.0.1", h.Port)
				c.Say("cold")
				id, err := on(&h, h.Addr())
				if id == "" {
					t.Fatalf("answered %q, %v\n%s", id, err, h.LastJournal())
				}
				if by, _ := c.Tallied("cold"); by != id {
					t.Errorf("the datagram was answered by %s, the connection by %s", by, id)
				}
			})
		}
	})
}

// An address that the container had once may be a neighbour's, who gets
// nothing.
func TestAddressOfAnother(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		subnet := fmt.Sprintf("10.99.%d.", h.Port%10)
		h.PutFile("own.network", "[Network]\nSubnet="+subnet+"0/24\n")
		container := func(ip string) {
			h.App("app", "-greet "+ip+":80 -udp "+ip+":80", h.Publish(), h.Publish()+"/udp", "Network=own.network", "IP="+ip,
				"[ScaleToZero]", "IdleTimeout=10min")
		}
		container(subnet + "8")
		before := h.DialUDP("127.0.0.1", h.Port)
		before.Say("before")
		first, _ := before.Tallied("before")
		container(subnet + "9")
		h.Must(t, "podman", "kill", "systemd-app")
		h.Wait("the container has its new address", func() bool {
			out, err := h.Session.Run(t.Context(), "podman", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "systemd-app")
			return err == nil && strings.TrimSpace(out.Stdout) == subnet+"9"
		}, "app.service")
		h.Must(t, "podman", "run", "--detach", "--rm", "--name=neighbour", "--network=systemd-own", "--ip="+subnet+"8", "localhost/app", "-greet", ":80", "-udp", ":80")
		second := mustOn(h, h.Addr())
		after := h.DialUDP("127.0.0.1", h.Port)
		after.Say("after")
		if id, _ := after.Tallied("after"); id != second || id == first {
			t.Errorf("the datagram was answered by %s, the connection by %s, before by %s", id, second, first)
		}
		h.Must(t, "podman", "kill", "neighbour")
	})
}
