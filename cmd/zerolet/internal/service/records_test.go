package service

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// remembered is what is left of a journal in the order of time, one word for each entry: what systemd
// says of the container, and "wake", "sleep" and "fail" of a run of the proxy.
func remembered(t *testing.T, story string) *Service {
	t.Helper()
	a := &account{Service: &Service{Name: "web", Socket: systemd.Unit{"LoadState": "loaded"}}}
	words := strings.Fields(story)
	for i := len(words) - 1; i >= 0; i-- {
		word, run, _ := strings.Cut(words[i], ":")
		e := systemd.Entry{"__REALTIME_TIMESTAMP": strconv.Itoa(1_000_000 * (i + 1)), "_SYSTEMD_INVOCATION_ID": run}
		id, proxy := map[string]string{
			"wake": wire.WakeMessage, "sleep": wire.SleepMessage, "fail": wire.FailMessage, "stop": wire.FailMessage,
		}[word]
		e[wire.FieldEvent] = word
		if !proxy {
			id = map[string]string{
				"starting": systemd.Starting, "started": systemd.Started, "stopping": systemd.Stopping,
				"failed": systemd.Failed, "nostart": systemd.NoStart,
			}[word]
		}
		if id == "" {
			t.Fatalf("no such entry: %s", word)
		}
		e["MESSAGE_ID"] = id
		if a.add(e, !proxy) {
			break
		}
	}
	a.close()
	return a.Service
}

// What has failed stays so until a client gets through; what was to stop has not.
func TestAccount(t *testing.T) {
	for story, want := range map[string]struct{ failed, asked bool }{
		"":                                 {},
		"starting started wake:1":          {},
		"starting started failed":          {failed: true},
		"starting failed nostart":          {failed: true},
		"nostart":                          {failed: true}, // of what it needs
		"starting started failed starting": {failed: true}, // between two tries
		"starting started failed starting started":                                        {failed: true},
		"starting started failed starting started wake:1":                                 {},
		"starting started wake:1 sleep:1 stopping failed":                                 {asked: true},
		"starting started wake:1 sleep:1 stopping":                                        {asked: true},
		"starting started wake:1 sleep:1 stopping failed nostart":                         {failed: true, asked: true},
		"starting started wake:1 sleep:1 stopping failed starting started":                {},
		"starting started wake:1 failed":                                                  {failed: true},
		"starting started wake:1 failed starting started":                                 {failed: true},
		"starting started wake:1 failed starting started sleep:1 stopping":                {asked: true}, // it has come back
		"starting started wake:1 sleep:1 stopping starting started failed":                {failed: true},
		"starting started wake:1 sleep:1 stopping starting started failed sleep:2":        {failed: true},
		"starting started fail:1":                                                         {failed: true},
		"starting started fail:1 sleep:1 stopping":                                        {failed: true, asked: true},
		"starting started wake:1 sleep:1 stopping starting stop:2 stopping":               {asked: true},
		"starting started fail:1 sleep:1 stopping starting started wake:2":                {},
		"starting started failed starting started wake:1 sleep:1 stopping failed sleep:1": {asked: true},
	} {
		s := remembered(t, story)
		if s.failed() != want.failed || s.Asked != want.asked {
			t.Errorf("%s: failed %v, asked %v", story, s.failed(), s.Asked)
		}
	}
}

// The start that counts is the one before the wake.
func TestAccountStart(t *testing.T) {
	s := remembered(t, "starting started starting started wake:1 starting started")
	at := func(i int64) time.Time { return time.Unix(i, 0) }
	if !s.starting.Equal(at(3)) || !s.started.Equal(at(4)) || !s.Wake.Time.Equal(at(5)) {
		t.Errorf("starting %v, started %v, woken %v", s.starting, s.started, s.Wake.Time)
	}
}

// The app's own words are those of the last try.
func TestLastWords(t *testing.T) {
	said := func(comm, text string, more ...string) systemd.Entry {
		e := systemd.Entry{"_SYSTEMD_UNIT": "web.service", "_COMM": comm, "_PID": comm, "MESSAGE": text}
		for i := 0; i < len(more); i += 2 {
			e[more[i]] = more[i+1]
		}
		return e
	}
	manager := func(id, text string) systemd.Entry {
		return systemd.Entry{"_SYSTEMD_UNIT": "init.scope", "UNIT": "web.service", "MESSAGE_ID": id, "MESSAGE": text, "PRIORITY": "5"}
	}
	const id = "58b7f54ff9d9aecf9f68a247c57f691d1e08ca19e310fa6157f513227bbc2dc3"
	start, fail := manager(systemd.Starting, "Starting"), manager(systemd.Failed, "Failed with result")
	skip := manager(systemd.Skipped, "Skipped due to 'exec-condition'.")
	app := said("conmon", "\x1b[31mFATAL:\x1b[0m\tno config\n", "CONTAINER_ID_FULL", id)
	around := []systemd.Entry{
		said("conmon", "conmon 58b7 <nwarn>: Failed to open cgroups file"), said("podman", id),
		said("podman", "container died", "PODMAN_EVENT", "died"), manager("", "Main process exited"),
	}
	for want, entries := range map[string][]systemd.Entry{
		"FATAL: no config": append([]systemd.Entry{start, app}, append(around, fail)...),
		"Error: netavark: Error from child process in use": {start, said("podman", "Error: netavark:"), said("podman", " Error from child process"), said("podman", "in use"), fail, start},
		"Main process exited":                              append([]systemd.Entry{start}, append(around, fail, start)...),
		"Error: after the end":                             {start, manager("", "Main process exited"), fail, said("podman", "Error: after the end"), start, fail},
		"the newer":                                        {start, app, fail, start, said("app", "the newer"), fail, start, app},
		"":                                                 {start},
		"not met: ExecCondition=":                          {start, skip, start},
		"it is Sunday":                                     {start, said("sh", "it is Sunday"), skip, start},
		"said before systemd tells":                        {start, said("app", "said before systemd tells")},
		"not a word of its own counts as the manager's one": {start, said("app", "not a word of its own counts as the manager's one", "MESSAGE_ID", systemd.Starting, "UNIT", "web.service")},
	} {
		if got := (Host{}).lastWords(entries); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
