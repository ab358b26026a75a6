package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/podman"
	"github.com/zerolet/zerolet/cmd/zerolet/internal/service"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// attempt is a newer image that a service has not been woken with yet, or that has
// failed. It outlives a boot, which a service may sleep through.
type attempt struct {
	Image   string // the name, of Old until now
	Old     string // the IDs
	New     string
	Digests []string // of New

	Failed bool
	Time   time.Time // when it has

	Rollbacks []service.Rollback // the newest last, that of this attempt included
}

// maxRollbacks is how many are remembered.
const maxRollbacks = 20

// attemptDir is where the attempts of the manager's services are noted, each in a
// file with the name of the unit.
func (c *call) attemptDir() string {
	state := wire.SystemState
	if c.manager == quadlet.User {
		state = filepath.Join(c.getenv("HOME"), wire.UserState)
	}
	return filepath.Join(state, "updates")
}

func (c *call) attemptFile(unit string) string { return filepath.Join(c.attemptDir(), unit) }

// forgetAttempts removes what is noted of units that are no more.
func (c *call) forgetAttempts(uses []use) error {
	entries, err := os.ReadDir(c.attemptDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if !slices.ContainsFunc(uses, func(u use) bool { return u.Unit == entry.Name() }) {
			err = errors.Join(err, os.Remove(c.attemptFile(entry.Name())))
		}
	}
	return err
}

// lastAttempt is that of a service, empty if there is none.
func (c *call) lastAttempt(unit string) (a attempt) {
	text, err := os.ReadFile(c.attemptFile(unit))
	if err != nil || json.Unmarshal(text, &a) != nil {
		return attempt{}
	}
	return a
}

// begin notes an attempt. The file appears whole.
func (c *call) begin(unit string, a attempt) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	path := c.attemptFile(unit)
	tmp := path + ".tmp"
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(tmp, text, 0o600)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	return err
}

// settle judges an attempt when the container has stopped, and reports whether what
// it would use now is to be kept from then on. An image whose first wake has served
// nobody has failed if the container did: its name goes back to the one before, as
// podman auto-update does it. Whoever waits is served by that.
func (c *call) settle(ctx context.Context, unit string) bool {
	a := c.lastAttempt(unit)
	if a.New == "" || a.Failed {
		return true
	}
	now, err := podman.Local(ctx, a.Image)
	switch {
	case err != nil || now.ID != a.New: // somebody else has seen to it
	case c.served(ctx, unit):
	case c.getenv("SERVICE_RESULT") == "success": // stopped before it was up (systemd.exec(5))
		return false
	default:
		err = podman.Tag(ctx, a.Old, a.Image)
		if err == nil {
			a.Failed, a.Time = true, c.clock()
			a.Rollbacks = append(a.Rollbacks, service.Rollback{Time: a.Time, Image: a.Image})
			a.Rollbacks = a.Rollbacks[max(0, len(a.Rollbacks)-maxRollbacks):]
			err = c.begin(unit, a)
		}
		// The unit's journal takes the priority (sd-daemon(3)).
		fmt.Fprintf(c.stderr.w, "<3>the newer image of %s has failed at its first start: back to the one before, %.12s\n", a.Image, a.Old)
		return errors.Join(err, podman.ForgetNext(ctx, unit)) == nil
	}
	return c.end(unit, a) == nil && podman.ForgetNext(ctx, unit) == nil
}

// end has an attempt be over. What came of those before is remembered.
func (c *call) end(unit string, a attempt) error {
	if len(a.Rollbacks) > 0 {
		return c.begin(unit, attempt{Rollbacks: a.Rollbacks})
	}
	err := os.Remove(c.attemptFile(unit))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// rollbacks are those of a service since a time: of each of its units, and of each
// container that one plays.
func (c *call) rollbacks(s *service.Service, since time.Time) []service.Rollback {
	found := []service.Rollback{}
	for _, s := range append([]*service.Service{s}, s.Members...) {
		played, _ := filepath.Glob(c.attemptFile(s.Name) + "#*")
		units := []string{s.Name}
		for _, path := range played {
			units = append(units, filepath.Base(path))
		}
		for _, unit := range units {
			for _, r := range c.lastAttempt(unit).Rollbacks {
				if !r.Time.Before(since) {
					found = append(found, r)
				}
			}
		}
	}
	return found
}

// served reports whether a client was let through since the container has begun to
// start, or that it has started where no client comes.
func (c *call) served(ctx context.Context, unit string) bool {
	unit, _, _ = strings.Cut(unit, "#") // of several that one unit plays
	all, err := c.look(ctx, service.Closely)
	if err != nil {
		return true // not known: a database that has moved on must not go back
	}
	if s := all.Named(unit); s != nil && !s.Dependency() {
		// The proxy knows it before journald has its record.
		return s.Reached() || !s.Wake.Time.Before(s.Container.Time("InactiveExitTimestamp"))
	}
	for _, s := range all.Services { // a dependency, or a container of a pod
		for _, s := range append(s.Members, s) {
			if s.Name == unit {
				return s.Container.Time("ActiveEnterTimestamp").After(s.Container.Time("InactiveExitTimestamp"))
			}
		}
	}
	return true
}

// refusedImage tells of a newer image that a service does without.
func (c *call) refusedImage(unit string) string {
	a := c.lastAttempt(unit)
	if !a.Failed {
		return ""
	}
	return fmt.Sprintf("the newer image of %s has failed at its first start %s ago: the one before runs. journalctl -u %s tells why",
		a.Image, short(c.clock().Sub(a.Time)), wire.Container.Of(unit))
}
