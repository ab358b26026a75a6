package system

import (
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// behind are the ports of the apps behind one owner, the last of them with an echo.
func behind(h *harness.Host) []int { return []int{h.Port + 10, h.Port + 20, h.Port + 30} }

// Apps in the network of another container wake it, share it, keep it, and see
// their own clients. It sleeps with the last of them, with a section or without.
func TestSharedNetwork(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		image, err := h.AppImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, network := range []string{"vpn.container", "container:tunnel"} {
			name, port := []string{"films", "books"}[i], behind(h)[i]
			h.PutFile(name+".container", fmt.Sprintf("[Container]\nImage=%s\nExec=%s\nNetwork=%s\n[ScaleToZero]\nListen=%d:%[4]d\nListen=%[4]d:%[4]d/udp\nIdleTimeout=1s\n",
				image, peers(fmt.Sprintf(":%d", port)), network, port))
		}
		echo := behind(h)[2]
		h.PutFile("echo.container", fmt.Sprintf("[Container]\nImage=%s\nExec=-echo :%d\nNetwork=vpn.container\n[ScaleToZero]\nListen=%[2]d:%[2]d\nIdleTimeout=1s\n", image, echo))
		for _, section := range []string{"", "PublishPort=" + fmt.Sprint(h.Port) + ":9000\n[ScaleToZero]\nIdleTimeout=1s\n"} {
			h.PutFile("vpn.container", "[Container]\nImage="+image+"\nExec=-http :9000\nContainerName=tunnel\n[Service]\nRestart=always\n[Container]\n"+section)
			h.Reload()
			for _, name := range []string{"films", "books", "echo"} {
				h.WaitState(name+"-proxy.socket", "active")
			}
			h.Expect("vpn.service", "inactive")
			if section == "" {
				sees(h, behind(h)[0])
			}
			h.Peer("udp", netip.AddrPortFrom(lab.Outside()[0], 0), behind(h)[0])
			h.Peer("tcp", netip.AddrPortFrom(lab.Outside()[0], 0), behind(h)[1])
			c := h.ConnectTo(echo)
			said(h, c, "x")
			pid := h.Property("vpn.service", "MainPID")
			h.WaitState("films.service", "inactive")
			h.WaitState("books.service", "inactive")
			said(h, c, "y")
			if again := h.Property("vpn.service", "MainPID"); again != pid {
				t.Errorf("the owner was started anew while it was needed: pid %s, then %s", pid, again)
			}
			c.Close()
			h.WaitState("vpn.service", "inactive")
			nothingLeft(h)
		}
		takesSidecarAlong(h, image)
	})
}

// takesSidecarAlong has a container in the network of an app, and bound to that, come
// and go with it, also when it dies.
func takesSidecarAlong(h *harness.Host, image string) {
	port := h.Port + 40
	h.PutFile("alone.container", fmt.Sprintf("[Container]\nImage=%s\nExec=-http :80\nPublishPort=%d:80\n[ScaleToZero]\nIdleTimeout=1s\n", image, port))
	h.PutFile("meter.container", "[Unit]\nBindsTo=alone.service\nAfter=alone.service\n"+
		"[Container]\nImage="+image+"\nExec=-http :9100\nNetwork=alone.container\n[ScaleToZero]\n")
	h.Must(h.T, "zerolet", "apply")
	c := h.ConnectTo(port)
	answers(h, "alone", port)
	h.WaitState("meter.service", "active")
	first := h.Property("meter.service", "InvocationID")
	h.Must(h.T, "podman", "kill", "systemd-alone")
	c.Close()
	c = h.ConnectTo(port)
	answers(h, "alone", port)
	h.Wait("meter is another one", func() bool {
		again := h.Property("meter.service", "InvocationID")
		return again != "" && again != first && h.State("meter.service") == "active"
	}, "alone.service", "meter.service")
	c.Close()
	for _, unit := range []string{"alone.service", "meter.service"} {
		h.WaitState(unit, "inactive")
	}
	nothingLeft(h)
}

// said has an echo answer.
func said(h *harness.Host, c io.ReadWriter, text string) {
	h.Helper()
	got := make([]byte, len(text))
	if _, err := c.Write([]byte(text)); err != nil {
		h.Fatal(err)
	}
	if _, err := c.Read(got); err != nil || string(got) != text {
		h.Fatalf("read %q: %v\n%s", got, err, h.LastJournal())
	}
}

// nothingLeft fails the test if a container or a failed unit is there.
func nothingLeft(h *harness.Host) {
	h.Helper()
	if left := harness.Containers(h.T, h.Session); left != "" {
		h.Errorf("containers are left: %s", left)
	}
	failed, err := h.M.Failed(h.Context())
	if err != nil {
		h.Error(err)
	}
	for _, unit := range failed {
		if strings.HasPrefix(unit, h.Name+": ") {
			h.Errorf("a failed unit: %s", unit)
		}
	}
}

// The recipe for a VPN does what it says, with another app in each image.
func TestRecipeVPN(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		files := recipe(t, h, "A VPN and its clients")
		ports := regexp.MustCompile(`(?m)^Listen=(\d+):`)
		var sockets []string
		for name, text := range files {
			exec := "-http :9000"
			if port := ports.FindStringSubmatch(text); port != nil {
				exec = "-http :" + port[1]
				text += "IdleTimeout=1s\n"
				sockets = append(sockets, port[1])
			}
			h.PutFile(name, strings.Replace(text, "[Container]\n", "[Container]\nExec="+exec+"\n", 1)+"\n")
		}
		if len(files) < 4 || len(sockets) != len(files)-1 {
			t.Fatalf("the recipe has %d files, %d with a port", len(files), len(sockets))
		}
		h.Must(t, "zerolet", "apply")
		c := h.ConnectTo(8096)
		for _, port := range sockets {
			h.Must(t, "curl", "-sS", "http://localhost:"+port+"/")
		}
		h.Expect("vpn.service", "active")
		c.Close()
		h.WaitState("vpn.service", "inactive")
		nothingLeft(h)
		verbs(h)
		for name := range files { // the other manager has the same ports
			h.Must(t, "rm", h.QuadletDir+"/"+name)
		}
		h.Must(t, "zerolet", "apply")
	})
}

// verbs tries what a person says of films and of the vpn whose network it is in.
func verbs(h *harness.Host) {
	h.Helper()
	for command, want := range map[string]string{
		"check vpn":      "vpn.service: no port, runs while needed by books.service films.service search.service",
		"explain films":  "is in the network of vpn.container, starts after it and stops with it",
		"render films":   "BindsTo=vpn.service",
		"metrics films":  `name="films"} 1`,
		"history films":  "films: ",
		"doctor":         "",
		"apply":          "nothing to do: 4 services as declared",
		"status vpn":     "needed by books.service films.service search.service",
		"export knative": "vpn.container is not exported",
	} {
		out, err := h.Session.Run(h.Context(), append([]string{"zerolet"}, strings.Fields(command)...)...)
		if text := out.Stdout + out.Stderr; err != nil && !strings.HasPrefix(command, "export") || !strings.Contains(text, want) {
			h.Errorf("%s: %v\n%s", command, err, text)
		}
	}
	c := h.ConnectTo(8096) // keeps it awake, however slow the machine is
	h.Must(h.T, "zerolet", "wake", "films")
	h.Expect("vpn.service", "active")
	if out, err := h.Session.Run(h.Context(), "zerolet", "sleep", "vpn"); err == nil || !strings.Contains(out.Stderr, "vpn stays up: films.service needs it") {
		h.Errorf("sleep vpn: %v\n%s", err, out.Stderr)
	}
	c.Close()
	h.Must(h.T, "zerolet", "sleep", "--force", "films")
	h.WaitState("vpn.service", "inactive")
}

// recipe are the files of a recipe, each after its name in a comment, for the app's
// image, and without what the lab has not.
func recipe(t *testing.T, h *harness.Host, title string) map[string]string {
	t.Helper()
	image, err := h.AppImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := between(t, read(t, "../../docs/recipes.md")+"\n## ", "## "+title+"\n", "\n## ")
	files := make(map[string]string)
	for _, block := range regexp.MustCompile("(?s)```ini\n# (\\S+)\n(.*?)```").FindAllStringSubmatch(text, -1) {
		body := regexp.MustCompile(`(?m)^Image=.*`).ReplaceAllString(block[2], "Image="+image)
		body = regexp.MustCompile(`(?m)^(AddDevice|EnvironmentFile|Volume)=.*\n`).ReplaceAllString(body, "")
		files[block[1]] = body
	}
	return files
}
