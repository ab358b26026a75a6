package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// Whatever the number of services, systemd and the journal are asked once. The
// manager itself is asked over its bus; each program that is started is seen by
// a script in front of it.
func TestOneQuestion(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{}), func(t *testing.T, h *harness.Host) {
		const watch = `for p in systemctl journalctl podman; do printf '#!/bin/sh\necho %s >>~/asked\nexec /usr/bin/%s "$@"\n' $p $p >~/seen/$p; chmod +x ~/seen/$p; done`
		h.Must(t, "sh", "-c", "mkdir -p ~/seen && "+watch)
		asked := func(verb ...string) string {
			const ask = `: >~/asked; PATH=~/seen:$PATH zerolet "$@" >/dev/null; cat ~/asked`
			out, err := h.Session.Run(h.Context(), append([]string{"sh", "-c", ask, "sh"}, verb...)...)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Join(strings.Fields(out.Stdout), " ")
		}
		verbs := [][]string{{"status"}, {"metrics"}, {"history"}, {"explain"}, {"doctor"}}
		declare := func(from, to int) {
			for i := from; i < to; i++ {
				h.PutFile(fmt.Sprintf("one-%d.container", i), fmt.Sprintf("[Container]\nImage=localhost/none\nPull=never\nPublishPort=%d:80\n[ScaleToZero]\nIdleTimeout=1s\n", h.Port+100+2*i))
			}
			h.Reload()
			for i := from; i < to; i++ {
				h.WaitState(fmt.Sprintf("one-%d-proxy.socket", i), "active")
			}
		}
		declare(0, 2)
		few := make(map[string]string)
		for _, verb := range verbs {
			few[verb[0]] = asked(verb...)
		}
		declare(2, 60)
		for _, verb := range verbs {
			if many := asked(verb...); many != few[verb[0]] || len(strings.Fields(many)) > 5 {
				t.Errorf("zerolet %s about 60 services starts %q, about 2 %q", verb[0], many, few[verb[0]])
			}
		}
		// Of those that fail, too, all last words are read at once.
		for i := range 3 {
			if _, err := h.Session.Run(h.Context(), "zerolet", "wake", fmt.Sprintf("one-%d", i)); err == nil {
				t.Error("without an image it wakes")
			}
		}
		if got := asked("status"); got != "journalctl journalctl" {
			t.Errorf("zerolet status about 3 that fail starts %q", got)
		}
	})
}
