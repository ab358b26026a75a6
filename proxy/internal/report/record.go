// Package report says what happened: records for the journal (wire has their
// fields), the state for systemd. It does not know what is forwarded, and reads
// nothing.
package report

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/journal"

	"github.com/zerolet/zerolet/proxy/wire"
)

// quiet is the least time between two failures of a kind in the journal.
const quiet = 10 * time.Second

// Recorder tells the journal what happened, and systemd how it stands. Where
// systemd has not made stderr a stream of the journal (systemd.exec(5),
// $JOURNAL_STREAM), the text goes there: to a person, or to a test.
type Recorder struct {
	Container string
	stderr    io.Writer
	journal   bool
	turned    limiter // clients turned away
	trouble   limiter // what may go by without harm
}

// New makes the recorder of a container.
func New(container string, stderr io.Writer) *Recorder {
	native, err := journal.StderrIsJournalStream()
	return &Recorder{Container: container, stderr: stderr, journal: native && err == nil}
}

// limiter lets one event pass in each quiet time and counts the others.
type limiter struct {
	mu      sync.Mutex
	next    time.Time
	skipped int
}

// pass reports whether to report now, and adds how many were not reported since
// the last time.
func (l *limiter) pass(message string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Before(l.next) {
		l.skipped++
		return "", false
	}
	if l.skipped > 0 {
		message += fmt.Sprintf(" (and %d more before)", l.skipped)
	}
	l.next, l.skipped = now.Add(quiet), 0
	return message, true
}

func (r *Recorder) send(priority journal.Priority, message string, fields map[string]string) {
	fields[wire.FieldContainer] = r.Container
	fields["SYSLOG_IDENTIFIER"] = "zerolet-proxy"
	if r.journal && journal.Send(message, priority, fields) == nil {
		return
	}
	fmt.Fprintf(r.stderr, "<%d>%s\n", priority, message)
}

// Wake says who woke the container and how long the app took, counted from the
// start of the proxy.
func (r *Recorder) Wake(peer string, took time.Duration) {
	r.wake(peer, "ready", took.Round(time.Millisecond), map[string]string{
		wire.FieldReady: strconv.FormatInt(took.Microseconds(), 10),
	})
}

// Thaw says who woke a frozen container, and how long it took to reach the app,
// which has not been started.
func (r *Recorder) Thaw(peer string, took time.Duration) {
	r.wake(peer, "thawed", took.Round(10*time.Microsecond), map[string]string{
		wire.FieldReady: strconv.FormatInt(took.Microseconds(), 10),
		wire.FieldFrom:  wire.Frozen,
	})
}

func (r *Recorder) wake(peer, how string, took time.Duration, fields map[string]string) {
	fields["MESSAGE_ID"], fields[wire.FieldEvent] = wire.WakeMessage, "wake"
	whom := ""
	if peer != "" { // who woke an app that accepts itself may be gone already
		fields[wire.FieldPeer] = peer
		whom = " for " + peer
	}
	r.send(journal.PriInfo, fmt.Sprintf("%s %s%s after %s", r.Container, how, whom, took), fields)
}

// Freeze says why the container is frozen, and what became of its memory: before
// that, and when as much as possible was reclaimed; 0 is not known.
func (r *Recorder) Freeze(why string, before, after int64) {
	fields := map[string]string{"MESSAGE_ID": wire.FreezeMessage, wire.FieldEvent: "freeze"}
	memory := ""
	if before > 0 {
		fields[wire.FieldBefore] = strconv.FormatInt(before, 10)
		memory = fmt.Sprintf("; %s of memory", size(before))
	}
	if before > 0 && after > 0 {
		fields[wire.FieldAfter] = strconv.FormatInt(after, 10)
		memory += fmt.Sprintf(", %s after reclaim", size(after))
	}
	r.send(journal.PriInfo, fmt.Sprintf("%s, %s is frozen%s", why, r.Container, memory), fields)
}

// Sleep says why the proxy ends and what it did.
func (r *Recorder) Sleep(why string, accepted, in, out int64) {
	r.sleep(
		fmt.Sprintf("%s, %s not needed any more; %s", why, r.Container, Totals(accepted, in, out)),
		map[string]string{
			wire.FieldConnections: strconv.FormatInt(accepted, 10),
			wire.FieldBytesIn:     strconv.FormatInt(in, 10),
			wire.FieldBytesOut:    strconv.FormatInt(out, 10),
		})
}

// SleepNative is sleep where the app has accepted by itself.
func (r *Recorder) SleepNative(why string) {
	r.sleep(fmt.Sprintf("%s, %s not needed any more", why, r.Container), make(map[string]string))
}

// sleep is the last record of a process.
func (r *Recorder) sleep(message string, fields map[string]string) {
	fields["MESSAGE_ID"], fields[wire.FieldEvent] = wire.SleepMessage, "sleep"
	r.send(journal.PriInfo, message, fields)
	if r.journal {
		awaitReader(journalSocket, readBound)
	}
}

// TurnedAway says that a client got no answer.
func (r *Recorder) TurnedAway(peer, why string) { r.turnAway(peer, why, "fail") }

// Stopped says that a client got none because the proxy was stopped.
func (r *Recorder) Stopped(peer string) {
	r.turnAway(peer, fmt.Sprintf("stopped before %s was ready", r.Container), wire.Stop)
}

func (r *Recorder) turnAway(peer, why, event string) {
	message, ok := r.turned.pass(fmt.Sprintf("%s turned away: %s", peer, why))
	if !ok {
		return
	}
	r.send(journal.PriErr, message, map[string]string{
		"MESSAGE_ID":    wire.FailMessage,
		wire.FieldEvent: event,
		wire.FieldPeer:  peer,
	})
}

// Retrying says what went wrong and is tried again.
func (r *Recorder) Retrying(err error) {
	if message, ok := r.trouble.pass(err.Error() + "; trying again"); ok {
		r.send(journal.PriWarning, message, map[string]string{})
	}
}

// Warn says what should not be but does not stop anything.
func (r *Recorder) Warn(message string) {
	r.send(journal.PriWarning, message, map[string]string{})
}

// Note says what is not as one may expect it, for a reason.
func (r *Recorder) Note(message string) {
	r.send(journal.PriNotice, message, map[string]string{})
}

// Notify tells systemd (sd_notify(3)). Without systemd nobody listens.
func (r *Recorder) Notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		r.Retrying(fmt.Errorf("sd_notify: %w", err))
	}
}

// Totals is what came of all connections.
func Totals(accepted, in, out int64) string {
	return fmt.Sprintf("%d accepted, %s in, %s out", accepted, size(in), size(out))
}

// Count is a number of things.
func Count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// size writes bytes as people read them, in powers of 1000.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 999.5 && unit < 4 {
		f /= 1000
		unit++
	}
	return fmt.Sprintf("%.3g %cB", f, "kMGTP"[unit])
}
