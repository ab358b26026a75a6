package system

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// pod declares shop.pod with its settings, and its two containers: web has the
// app, which asks db. The latter stands in another directory, and needs no more
// than to be named.
func pod(h *harness.Host, lines ...string) {
	h.Helper()
	podOf(h, "-http :80 -greet :81 -udp :82", lines...)
}

func podOf(h *harness.Host, web string, lines ...string) {
	h.Helper()
	image, err := h.AppImage(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.PutFile("shop.pod", "[Pod]\n"+strings.Join(lines, "\n")+"\n")
	h.PutFile("shop-web.container", "[Unit]\nRequires=shop-db.container\nAfter=shop-db.container\n"+
		"[Container]\nImage="+image+"\nExec="+web+"\nPod=shop.pod\n[Install]\nWantedBy=default.target\n")
	h.PutFile("db/shop-db.container", "[Container]\nImage="+image+"\nExec=-http :5432\nPod=shop.pod\n[Service]\nRestart=always\n")
	h.Reload()
	h.WaitState("shop-pod-proxy.socket", "active")
}

func podAsleep(h *harness.Host) { h.Helper(); h.AsleepPod("shop-pod", "shop-web", "shop-db") }

// A pod and its containers wake with the first client and go with the last one:
// no container, no pod, no file is left.
func TestPod(t *testing.T) {
	harness.Each(t, harness.Boot(t, lab.Options{}), wakesPod)
}

func wakesPod(t *testing.T, h *harness.Host) {
	pod(h, h.Publish(), fmt.Sprintf("PublishPort=[::1]:%d:81", h.Port+100), fmt.Sprintf("PublishPort=%d:82/udp", h.Port+200),
		"[ScaleToZero]", "IdleTimeout=1s", "[Install]", "WantedBy=default.target")
	h.Control("start", "default.target")
	all := []string{"shop-pod.service", "shop-web.service", "shop-db.service"}
	for _, unit := range append(all, "shop-pod-proxy.service") {
		h.Expect(unit, "inactive")
	}
	starts := make(map[string]bool)
	for range 2 {
		c := h.Connect()
		starts[strings.TrimSpace(h.MustGet())] = true
		for _, unit := range all {
			h.Expect(unit, "active")
		}
		if id, err := h.GetPath("/of?url=http://127.0.0.1:5432"); err != nil || id == "" || starts[id] {
			t.Errorf("web asks db: %q, %v", id, err)
		}
		starts[mustOn(h, net.JoinHostPort("::1", fmt.Sprint(h.Port+100)))] = true
		c.Close()
		podAsleep(h)
	}
	if len(starts) != 2 {
		t.Errorf("%d starts of web, want 2", len(starts))
	}
	u := h.DialUDP("127.0.0.1", h.Port+200)
	u.Say("hello")
	if id, _ := u.Tallied("hello"); starts[id] {
		t.Errorf("the containers were not stopped: %s answers again", id)
	}
	podAsleep(h)
}
