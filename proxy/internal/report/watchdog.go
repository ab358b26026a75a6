package report

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// restingWatch is how long systemd waits for who rests. Then nothing is lost by who
// does not go on: nobody asks it for anything.
const restingWatch = time.Hour

// Watchdog tells systemd again and again that this process goes on, as WatchdogSec=
// asks for: if it has been stopped, its proxy gives it up, and systemd would not
// start another one beside it. A nil one tells nothing.
type Watchdog struct{ rests chan bool }

// NewWatchdog is nil where systemd does not ask.
func NewWatchdog() *Watchdog {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return nil
	}
	w := &Watchdog{rests: make(chan bool)}
	go w.run(limit)
	return w
}

func (w *Watchdog) run(limit time.Duration) {
	tick := time.NewTicker(limit / 2)
	for {
		select {
		case <-tick.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		case rests := <-w.rests:
			now := limit
			if rests {
				now = restingWatch
			}
			tick.Reset(now / 2)
			// It counts from now on (WATCHDOG_USEC= in sd_notify(3)).
			_, _ = daemon.SdNotify(false, fmt.Sprintf("WATCHDOG_USEC=%d\n%s", now.Microseconds(), daemon.SdNotifyWatchdog))
		}
	}
}

// Rest has this process not wake up for nothing, or be watched again.
func (w *Watchdog) Rest(rests bool) {
	if w != nil {
		w.rests <- rests
	}
}
