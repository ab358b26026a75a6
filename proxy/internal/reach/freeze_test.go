package reach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// fakePayload is a directory with the files of a cgroup, and a payload of it.
func fakePayload(t *testing.T, events, freeze string) *Payload {
	t.Helper()
	dir := filepath.Join(t.TempDir(), payloadPrefix+"1")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"cgroup.events": events, "cgroup.freeze": freeze, "memory.current": fmt.Sprintln(5 * reclaimAtOnce / 2), "memory.reclaim": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fds := make([]int, 0, 2)
	for _, name := range []string{"cgroup.freeze", "memory.reclaim"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, int(f.Fd()))
		t.Cleanup(func() { f.Close() })
	}
	p, err := newPayload(dir, fds)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// How several stand is how the one does that matters most.
func TestPayloadState(t *testing.T) {
	frozen := fakePayload(t, "populated 1\nfrozen 1\n", "1\n")
	for _, test := range []struct {
		events, freeze string
		want           State
	}{
		{"populated 1\nfrozen 1\n", "1\n", Frozen},
		{"populated 1\nfrozen 0\n", "1\n", Freezing},
		{"populated 1\nfrozen 0\n", "0\n", Thawed},
		{"populated 0\nfrozen 1\n", "1\n", Ended},
	} {
		all := Payloads{frozen, fakePayload(t, test.events, test.freeze)}
		if got := all.Look(); got != test.want {
			t.Errorf("%q, %q: state %d, want %d", test.events, test.freeze, got, test.want)
		}
	}
}

// What is asked for is bounded by what there is, and ends when somebody comes.
func TestReclaimEnds(t *testing.T) {
	p := fakePayload(t, "populated 1\nfrozen 1\n", "1\n") // a plain file takes what is written
	asked := 0
	if !(Payloads{p}).Reclaim(func() bool { asked++; return false }) || asked != 3 {
		t.Errorf("asked %d times for 40 MiB in steps of 16", asked)
	}
	if (Payloads{p}).Reclaim(func() bool { return true }) {
		t.Error("it goes on after the thaw")
	}
	if n := (Payloads{p, p}).Memory(); n != 5*reclaimAtOnce {
		t.Errorf("%d bytes of memory", n)
	}
}

// Of a pod those are frozen that run; what it needs is not frozen without it.
func TestFreezerOpens(t *testing.T) {
	for _, test := range []struct {
		name string
		runs []bool
		want int
	}{
		{"all", []bool{true, true, true}, 3},
		{"the first has ended", []bool{false, true, true}, 2},
		{"nothing but what it needs", []bool{false, false, true}, 0},
		{"not what it needs", []bool{true, true, false}, 2},
	} {
		f := &Freezer{units: []string{"shop-init.service", "shop-web.service", "db.service"}, own: []string{"shop-init.service", "shop-web.service"}}
		f.open = func(i int) (*Payload, error) {
			if !test.runs[i] {
				return nil, ErrNoContainer
			}
			return fakePayload(t, "populated 1\nfrozen 0\n", "0\n"), nil
		}
		all, err := f.Open()
		if len(all) != test.want || (err == nil) != (test.want > 0) || (err != nil && !errors.Is(err, ErrNoContainer)) {
			t.Errorf("%s: %d opened, want %d: %v", test.name, len(all), test.want, err)
		}
	}
}
