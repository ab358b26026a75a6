package service

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// told is how many of the newest entries about a unit are looked at.
const told = 100

// Words are what the units' processes said last before they failed, or where
// they said nothing, what systemd said first about that failure, since a time.
func (h Host) Words(ctx context.Context, units []string, since time.Time) (map[string]string, error) {
	words := make(map[string]string)
	if len(units) == 0 {
		return words, nil
	}
	heard := make(map[string][]systemd.Entry) // the newest first
	for _, unit := range units {
		heard[unit] = nil
	}
	open := len(heard)
	err := h.Journal(ctx, systemd.Query{
		Since: since, Newest: true, Last: max(memory, told*len(units)),
		Fields: []string{"MESSAGE", "PRIORITY", "PODMAN_EVENT", "CONTAINER_ID_FULL", "_COMM", "_PID", "SYSLOG_IDENTIFIER"},
		Match:  [][]string{h.From(units...), h.Told(units...), h.FromNobody(units...)},
	}, func(e systemd.Entry) bool {
		unit := h.about(e)
		if entries, asked := heard[unit]; asked && len(entries) < told && !e.Time().Before(since) { // --since= is about seconds
			heard[unit] = append(entries, e)
			if len(entries)+1 == told {
				open--
			}
		}
		return open > 0
	})
	for unit, entries := range heard {
		slices.Reverse(entries)
		words[unit] = h.lastWords(entries)
	}
	return words, err
}

// about is the unit that an entry is about: the manager speaks of any, who else
// says so speaks for its own, also where journald has not found out which that is.
func (h Host) about(e systemd.Entry) string {
	if h.FromManager(e) {
		return e.About()
	}
	return cmp.Or(h.Sender(e), h.Nobodys(e))
}

// lastWords are those in entries about one unit.
func (h Host) lastWords(entries []systemd.Entry) string {
	var last, cause string
	var said speech
	late := false // journald takes what a process has said after what the manager has, at times
	for _, e := range entries {
		switch {
		case !h.FromManager(e):
			said.add(e)
		case e.Text("MESSAGE_ID") == systemd.Starting:
			if late {
				last = cmp.Or(said.last(), last)
			}
			said, cause, late = speech{}, "", false
		case e.Text("MESSAGE_ID") == systemd.Skipped:
			last = cmp.Or(said.last(), "not met: ExecCondition=")
			said, cause = speech{}, ""
		case e.Text("MESSAGE_ID") == systemd.Failed:
			late = said.last() == ""
			last = cmp.Or(said.last(), cause, last)
			said, cause = speech{}, ""
		case isCause(e):
			cause = cmp.Or(cause, strings.TrimSpace(e.Text("MESSAGE")))
		}
	}
	if late {
		last = cmp.Or(said.last(), last)
	}
	return reasoned(cmp.Or(last, said.last(), cause)) // systemd may not have told the failure yet
}

// speech is what the processes of a unit have said in one of its lives.
type speech struct {
	app    string // conmon has it from the container
	podman string // or another that has no container
	pid    string // of the one that said so
}

// last are the app's own words, if it had any.
func (s speech) last() string { return cmp.Or(s.app, s.podman) }

func (s *speech) add(e systemd.Entry) {
	text := plain(e.Text("MESSAGE"))
	switch {
	case text == "", e.Text("PODMAN_EVENT") != "": // which is for machines
	case e.Text("CONTAINER_ID_FULL") != "":
		s.app = text
	case e.Text("_COMM") == "conmon", isID.MatchString(text): // what podman run prints
	case s.pid == e.Text("_PID") && strings.HasPrefix(s.podman, "Error: "): // an error may take several lines
		s.podman += " " + text
	default:
		s.podman, s.pid = text, e.Text("_PID")
	}
}

var (
	isID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	escape = regexp.MustCompile(`\x1b(\[[0-9:;<=>?]*[ -/]*[@-~]|[@-Z\\-_])`) // ECMA-48, 5.4
)

// plain is a text in one line and without colours.
func plain(text string) string {
	return strings.Join(strings.Fields(escape.ReplaceAllString(text, "")), " ")
}

// reasoned adds the reason that systemd's words leave out: a child of the manager
// opens a socket and tells why it could not, but journald takes that for nobody's
// if the child has ended before it is looked at.
func reasoned(words string) string {
	if strings.Contains(words, "Failed to receive listening socket") && strings.HasSuffix(words, "Input/output error") {
		return words + " (most likely the address is in use)"
	}
	return words
}

// isCause reports whether a message of systemd's may say why a unit failed, and
// not only that it did, or that it is not tried again at once.
func isCause(e systemd.Entry) bool {
	text := e.Text("MESSAGE")
	return e.Number("PRIORITY") <= 5 && e.Text("MESSAGE_ID") != systemd.NoStart &&
		!strings.HasSuffix(text, "Start request repeated too quickly.") &&
		!strings.Contains(text, "Unit needs to be started because")
}

// Trouble is what hinders a service: in words, or by the units whose last words
// say it, of which the first that has any counts.
type Trouble struct {
	Text  string
	Units []string
}

// Trouble is empty unless the service is failing, or a container of the pod is, or
// it does not listen.
func (s *Service) Trouble() Trouble {
	if m := s.failedMember(); m != nil && !s.Refused() {
		return Trouble{Text: wire.Container.Of(m.Name) + " failed", Units: []string{wire.Container.Of(m.Name)}}
	}
	switch s.State() {
	case Failing:
		return s.failure()
	case NotListening:
		if s.Socket.Is("failed", "activating") {
			return Trouble{Units: []string{wire.Socket.Of(s.Name)}}
		}
		if s.Shut() {
			return Trouble{Units: []string{wire.Open.Of(s.Name)}}
		}
	}
	return Trouble{}
}

func (s *Service) failure() Trouble {
	rests := s.Container.Is("inactive", "failed")
	unmet := strings.Join(strings.Fields(s.Container["Conditions"]+" "+s.Container["Asserts"]), " ")
	switch {
	case s.Proxy.Is("failed") || s.Proxy["SubState"] == "auto-restart":
		return Trouble{Units: []string{wire.Proxy.Of(s.Name)}}
	case rests && unmet != "":
		return Trouble{Text: "not met: " + unmet}
	case s.Container["Result"] == "exec-condition":
		return Trouble{Text: "not met: ExecCondition=", Units: []string{wire.Container.Of(s.Name)}}
	case len(s.missing) > 0:
		return Trouble{Text: s.missing[0] + ", which it needs, failed", Units: append(slices.Clone(s.missing), wire.Container.Of(s.Name))}
	case s.Container.Is("failed", "activating"), s.broken(), !s.Failed.Time.After(s.Wake.Time):
		return Trouble{Text: s.Failed.Text, Units: []string{wire.Container.Of(s.Name)}}
	}
	return Trouble{Text: s.Failed.Text}
}
