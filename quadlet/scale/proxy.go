package scale

import (
	"strings"

	"github.com/zerolet/zerolet/proxy/wire"
)

// Proxy is what the keys have the proxy be told. Who it serves and where it
// finds the app is not theirs to say.
func (s *Spec) Proxy() wire.Config {
	var c wire.Config
	for _, k := range keys {
		k.proxy(s, &c)
	}
	return c
}

// untold is for what the generator makes of units alone, and of Listen=, which
// it leads to the app.
func untold(*Spec, *wire.Config) {}

func (s *Spec) tellReadyCheck(c *wire.Config) {
	if path, http := strings.CutPrefix(s.ReadyCheck, "http:"); http {
		c.ReadyCheck = path
	} else if s.ReadyCheck == wire.NoCheck {
		c.ReadyCheck = wire.NoCheck
	}
}

// tellCalendar names the file as it is below the manager's runtime directory.
func (s *Spec) tellCalendar(c *wire.Config) {
	if len(s.WakeOn) > 0 {
		c.Calendar = wire.CalendarFile(s.Unit)
	}
}

// tellSilence leaves the default out, which many command lines would have.
func (s *Spec) tellSilence(c *wire.Config) {
	if s.ConnectionIdleTimeout != Infinity {
		c.ConnectionIdleTimeout = s.ConnectionIdleTimeout.Duration()
	}
}
