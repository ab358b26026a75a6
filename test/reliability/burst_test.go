package reliability

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
)

// While so many start as there are places, and the processors are busy, another one
// waits. It starts when one has ended or is gone, or if the processors are idle: then
// all that start wait for something else. Where there are no more services than places
// none waits.
func TestManyStart(t *testing.T) {
	each(t, func(t *testing.T, h *harness.Host) {
		h.PutFile(h.UnitDir+"/busy.service", "[Service]\nNice=19\nRuntimeMaxSec=20min\n"+
			"ExecStart=sh -c 'for i in $(seq $(nproc)); do while :; do :; done & done; wait'\n")
		first := gate{h, h.RuntimeDir + "/first"}
		dropIn(h, "app0.service", "[Service]", "ExecStartPre"+first.wait())
		next := gate{h, h.RuntimeDir + "/next"}
		dropIn(h, "app1.service", "[Service]", "ExecCondition"+next.wait()) // before it asks for a place
		ask := make([]func() <-chan answer, 3)
		for i := range ask {
			h.App(fmt.Sprintf("app%d", i), "-http :80", fmt.Sprintf("PublishPort=%d:80", port(h, i)), "[ScaleToZero]", "IdleTimeout=1s")
			ask[i] = func() <-chan answer {
				done := make(chan answer, 1)
				go func() {
					id, err := askOnce(h, port(h, i), harness.Patience)
					done <- answer{id, err}
				}()
				return done
			}
		}
		bounded := func(want bool) {
			t.Helper()
			if takesPlace(h, "app0") != want {
				t.Errorf("app0 takes a place is not %v", want)
			}
		}
		starts := func(name string) {
			t.Helper()
			h.Wait(name+" has a place", func() bool {
				out, err := h.Session.Run(t.Context(), "cat", h.RuntimeDir+"/zerolet-starts")
				return err == nil && strings.Contains(out.Stdout, name+" ")
			}, name+".service")
		}
		waited := 0 // of app1
		waits := func() {
			t.Helper()
			waited++
			h.Wait("it waits for a place", func() bool {
				text, err := h.Journal(t.Context(), "app1.service")
				return err == nil && strings.Count(text, "waits for a place") == waited
			}, "app1.service")
			h.Expect("app1.service", "activating")
		}
		// A start counts for 15 s at most: who is to wait for it is there before.
		behind := func(wake func()) <-chan answer {
			t.Helper()
			first.shut()
			next.shut()
			b := ask[1]()
			waitStage(h, "app1.service", "condition")
			wake()
			starts("app0")
			next.open()
			waits()
			return b
		}
		asleep := func() {
			t.Helper()
			for i := range ask {
				h.WaitState(fmt.Sprintf("app%d.service", i), "inactive")
			}
		}

		h.Control("set-environment", "ZEROLET_STARTS=1")
		h.Reload()
		bounded(false) // no generator knows of that
		h.Control("unset-environment", "ZEROLET_STARTS")
		unbound := boundStarts(h, 1)
		bounded(true)
		if text := h.Must(t, "zerolet", "apply", "--dry-run"); !strings.Contains(text, "nothing to do") { // it does not know of the bound
			t.Errorf("that changes the services: %s", text)
		}
		h.Control("start", "busy.service")
		var a <-chan answer
		asks := func() { a = ask[0]() }
		b := behind(asks)
		c := ask[2]()
		first.open()
		for _, done := range []<-chan answer{a, b, c} {
			(<-done).must(h)
		}
		asleep()

		b = behind(func() { h.ConnectTo(port(h, 0)).Close() }) // who leaves has woken it all the same
		h.Control("stop", "app0-proxy.socket")                 // it never ends its start
		(<-b).must(h)
		first.open()
		h.Control("start", "app0-proxy.socket")
		asleep()

		b = behind(asks)
		h.Control("stop", "busy.service")
		(<-b).must(h)
		h.Expect("app0.service", "activating")
		first.open()
		(<-a).must(h)
		asleep()
		unbound()
		bounded(false)
	})
}

// takesPlace reports whether a container's unit waits before its start while many start.
func takesPlace(h *harness.Host, name string) bool {
	h.Helper()
	return strings.Contains(h.Property(name+".service", "ExecStartPre"), "zerolet place")
}

// boundStarts has so many containers of the manager start at a time, until the bound is
// taken back.
func boundStarts(h *harness.Host, n int) (unbound func()) {
	h.Helper()
	file, text := "/etc/systemd/system.conf.d/50-starts.conf", "[Manager]\nDefaultEnvironment=ZEROLET_STARTS=%d\n"
	if h.UserManager {
		file, text = h.Home+"/.config/environment.d/50-starts.conf", "ZEROLET_STARTS=%d\n"
	}
	h.PutFile(file, fmt.Sprintf(text, n))
	h.Reload()
	return func() {
		h.Must(h.T, "rm", file)
		h.Reload()
	}
}

// As many services as a large home server has, asked within a second: all are served,
// with the bound and without.
func TestBurst(t *testing.T) {
	if !*soak {
		t.Skip("takes minutes")
	}
	const services = 200
	each(t, func(t *testing.T, h *harness.Host) {
		if _, err := h.AppImage(t.Context()); err != nil {
			t.Fatal(err)
		}
		sleep := []string{"zerolet", "sleep"}
		for i := range services {
			name := fmt.Sprintf("app%d", i)
			sleep = append(sleep, name)
			h.PutFile(name+".container", fmt.Sprintf("[Container]\nImage=localhost/app\nPull=never\nExec=-http :80 -burn 300ms\n"+
				"PublishPort=%d:80\n[ScaleToZero]\nIdleTimeout=1h\n", port(h, i)))
		}
		h.Reload()
		for i := range services {
			h.WaitState(fmt.Sprintf("app%d-proxy.socket", i), "active")
		}
		if !takesPlace(h, "app0") {
			t.Fatalf("%d services, and none waits for others", services)
		}
		for _, starts := range []string{"infinity", ""} {
			h.Control("set-environment", "ZEROLET_STARTS="+starts)
			took := make([]time.Duration, services)
			var all sync.WaitGroup
			began := time.Now()
			for i := range services {
				all.Go(func() {
					if _, err := askOnce(h, port(h, i), *limit); err != nil {
						h.Errorf("app%d: %v", i, err)
					}
					took[i] = time.Since(began)
				})
			}
			all.Wait()
			slices.Sort(took)
			t.Logf("ZEROLET_STARTS=%s: first %s, median %s, last %s", starts,
				took[0].Round(time.Millisecond), took[services/2].Round(time.Millisecond), took[services-1].Round(time.Millisecond))
			h.Must(t, sleep...)
		}
		h.Control("unset-environment", "ZEROLET_STARTS")
	})
}
