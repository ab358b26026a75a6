package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zerolet/zerolet/cmd/zerolet/internal/systemd"
	"github.com/zerolet/zerolet/proxy/wire"
)

// state is how a service stands.
type state string

// The states, as "zerolet status" prints them.
const (
	asleep   state = "asleep"        // the socket listens, nothing else runs
	waking   state = "waking"        // the container starts, or its app has not been reached yet
	awake    state = "awake"         // it serves, or is ready to
	stopping state = "stopping"      // on the way to sleep
	failing  state = "failing"       // the last attempt to wake it failed, or its file has an error
	deaf     state = "not listening" // nothing wakes it
)

// service is one scaled container as systemd has it.
type service struct {
	name      string // of its units, without a suffix
	socket    systemd.Unit
	proxy     systemd.Unit
	container systemd.Unit
	target    systemd.Unit // starts the container for who may come, in a user's manager with AllowFrom=
	opener    systemd.Unit // opens the sockets again with Mode=native
	// the system's way into the container
	entrySocket, entry systemd.Unit

	abandoned bool // the proxy runs, and its unit has no file any more
	relic     bool // so it is with the socket, which listens no more: to start it does nothing

	deaf   []string // addresses of the socket on which nothing listens
	wake   record   // the last one
	failed record   // the last client that was turned away
}

// record is what zerolet-proxy has told the journal.
type record struct {
	time time.Time
	peer string
	took time.Duration // counted from the start of the proxy
	text string
}

// services are the scaled containers of a manager in the order of their names:
// all of them, or the named ones.
func (c *call) services(ctx context.Context) ([]*service, error) {
	all, _, err := c.declaredOrLeft(ctx)
	if err != nil {
		return nil, err
	}
	named, err := c.named(all)
	if err != nil {
		return nil, err
	}
	return named, c.fillIn(ctx, named)
}

// found are all of them. The lost are units that may have been.
func (c *call) found(ctx context.Context) (all []*service, lost []string, err error) {
	all, lost, err = c.declaredOrLeft(ctx)
	if err != nil {
		return nil, nil, err
	}
	return all, lost, c.fillIn(ctx, all)
}

// named are those of the command line.
func (c *call) named(all []*service) ([]*service, error) {
	if len(c.names) == 0 {
		return all, nil
	}
	var named []*service
	for _, name := range c.names {
		i := slices.IndexFunc(all, func(s *service) bool { return s.called(name) })
		if i < 0 {
			return nil, c.unknown(name)
		}
		if !slices.Contains(named, all[i]) {
			named = append(named, all[i])
		}
	}
	return named, nil
}

func (c *call) unknown(name string) error {
	return failure{
		exitError, fmt.Sprintf("no scaled container %q is known to systemd", name),
		fmt.Sprintf("zerolet check --%s says what is wrong with a file, zerolet apply --%[1]s makes a new one known", c.manager),
	}
}

// called tells whether a person means this service.
func (s *service) called(name string) bool {
	if strings.Contains(name, "/") {
		return s.source() == name
	}
	name = strings.TrimSuffix(strings.TrimSuffix(name, ".container"), ".service")
	return name == s.name || s.source() != "" && name == strings.TrimSuffix(filepath.Base(s.source()), ".container")
}

// declaredOrLeft asks systemd for every scaled container: those that the
// generator has made units of, and those whose file is gone while they run. The
// lost are units of such names that run without a file and may be anybody's.
func (c *call) declaredOrLeft(ctx context.Context) (all []*service, lost []string, err error) {
	m := c.systemd()
	files, err := m.Files(ctx, "generated")
	if err != nil {
		return nil, nil, c.unreachable(err)
	}
	loaded, err := m.Loaded(ctx, wire.Socket.Of("*"), wire.Proxy.Of("*"))
	if err != nil {
		return nil, nil, err
	}
	var names, units []string
	for _, unit := range append(files, loaded...) {
		name := serviceOf(unit)
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, u := range wire.Units() {
			units = append(units, u.Of(name))
		}
	}
	shown, err := m.Units(ctx, units...)
	if err != nil {
		return nil, nil, err
	}
	for i, name := range names {
		at := len(wire.Units()) * i
		s := &service{
			name: name, socket: shown[at], proxy: shown[at+1], container: shown[at+2], target: shown[at+3], opener: shown[at+4],
			entrySocket: shown[at+5], entry: shown[at+6],
		}
		s.abandoned = c.abandoned(s)
		lost = append(lost, s.lost()...)
		if s.disown(); s.ours() {
			all = append(all, s)
		}
	}
	return all, lost, nil
}

// units are the units of the service by their names.
func (s *service) units() map[string]systemd.Unit {
	units := make(map[string]systemd.Unit)
	for i, u := range []systemd.Unit{s.socket, s.proxy, s.container, s.target, s.opener, s.entrySocket, s.entry} {
		units[wire.Units()[i].Of(s.name)] = u
	}
	return units
}

// serviceOf is the name that a unit may belong to. Where one of the others is
// there, so is one of these.
func serviceOf(unit string) string {
	for _, u := range []wire.Unit{wire.Socket, wire.Proxy, wire.Container} {
		if name, ok := u.Name(unit); ok {
			return name
		}
	}
	return ""
}

// dependency reports whether the container has no port: it runs while another
// unit needs it.
func (s *service) dependency() bool {
	return !s.socket.Found() && !s.proxy.Found() && !s.refused() && ofContainer(s.container)
}

// refused reports whether the file has an error and the service says so instead
// of running.
func (s *service) refused() bool {
	return ofContainer(s.container) && wire.IsRefused(s.container["Documentation"])
}

// orphan reports whether the file is gone, or scaled no more, and what it had
// become still runs.
func (s *service) orphan() bool {
	return !s.socket.Found() && !s.proxy.Found() && !s.refused() && !s.dependency()
}

// source is the .container file.
func (s *service) source() string {
	for _, u := range []systemd.Unit{s.socket, s.proxy, s.container} {
		if generated(u) {
			return u["SourcePath"]
		}
	}
	return ""
}

// fillIn adds what the kernel and the journal know.
func (c *call) fillIn(ctx context.Context, all []*service) error {
	listening, err := listeningSockets(c.systemd())
	if err != nil {
		return err
	}
	for _, s := range all {
		if s.dependency() {
			s.wake = s.lastStart()
			continue
		}
		for _, l := range s.listens() {
			if !listening[l] {
				s.deaf = append(s.deaf, l.address)
			}
		}
		if s.wake, err = c.lastRecord(ctx, s, wire.WakeMessage); err != nil {
			return err
		}
		if s.failed, err = c.lastRecord(ctx, s, wire.FailMessage); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) lastRecord(ctx context.Context, s *service, message string) (record, error) {
	match := append(c.systemd().From(wire.Proxy.Of(s.name)), "MESSAGE_ID="+message)
	entries, err := c.systemd().Journal(ctx, systemd.Query{Last: 1, Match: [][]string{match}})
	if err != nil || len(entries) == 0 {
		return record{}, err
	}
	return newRecord(entries[0]), nil
}

// lastStart is the last wake of a dependency: no client has to be let through.
func (s *service) lastStart() record {
	starting, started := s.container.Time("InactiveExitTimestamp"), s.container.Time("ActiveEnterTimestamp")
	if started.Before(starting) { // that one has failed, or is under way
		return record{}
	}
	return record{time: started, took: started.Sub(starting)}
}

func newRecord(e systemd.Entry) record {
	return record{
		time: e.Time(), peer: e.Text(wire.FieldPeer), text: e.Text("MESSAGE"),
		took: time.Duration(e.Number(wire.FieldReady)) * time.Microsecond,
	}
}

// listens are the sockets of the socket unit.
func (s *service) listens() []listener {
	var all []listener
	for line := range strings.Lines(s.socket["Listen"]) {
		if l, ok := parseListener(strings.TrimSpace(line)); ok {
			all = append(all, l)
		}
	}
	return all
}

func (s *service) state() state {
	switch proxy, container := s.proxy, s.container; {
	case s.refused(), container.Is("failed"), proxy.Is("failed"), proxy["SubState"] == "auto-restart":
		return failing
	case container.Is("deactivating") && container["Result"] != "success":
		return failing
	case container.Is("deactivating"):
		return stopping
	case container.Is("activating"), proxy.Is("activating"):
		return s.trying()
	case s.unwanted():
		return asleep
	case proxy.Is("active") && (!container.Is("active", "reloading") || s.connections() > 0 && !s.reached()):
		return s.trying()
	case container.Is("active", "reloading"):
		return awake
	case s.dependency():
		return asleep
	case !s.socket.Is("active") || len(s.deaf) > 0 || s.shut():
		return deaf
	case s.failed.time.After(s.wake.time):
		return failing
	}
	return asleep
}

// trying is waking, or failing: the proxy runs once the container's first start
// is over (After=), so if the container has not been active since, that failed.
// Where the proxy is first, that start must have ended, too.
func (s *service) trying() state {
	began := s.proxy.Time("InactiveExitTimestamp")
	if s.proxy.Is("active", "activating") && !s.container.Is("active", "reloading") &&
		s.container.Time("ActiveExitTimestamp").Before(began) &&
		(!s.proxyFirst() || s.container.Time("InactiveEnterTimestamp").After(began)) {
		return failing
	}
	return waking
}

// proxyFirst tells whether the proxy starts before the container.
func (s *service) proxyFirst() bool { return s.target.Found() || s.opener.Found() }

// unwanted tells whether the proxy runs, but has had no client who may wake the
// container (AllowFrom=).
func (s *service) unwanted() bool {
	return s.target.Found() && !s.target.Is("active") && s.connections() == 0 && s.container.Is("inactive")
}

// shut tells whether the sockets were left shut (Mode=native): to open them has
// failed, and may be tried again.
func (s *service) shut() bool {
	again := s.opener["SubState"] == "auto-restart" || s.opener.Is("activating") && s.opener["NRestarts"] != "0"
	return !s.proxy.Is("active") && (s.opener.Is("failed") || again)
}

// since is when the state began, if systemd knows.
func (s *service) since() time.Time {
	switch s.state() {
	case awake:
		return s.container.Time("ActiveEnterTimestamp")
	case waking:
		return s.container.Time("InactiveExitTimestamp")
	case stopping:
		return s.container.Time("ActiveExitTimestamp")
	case asleep:
		if at := s.container.Time("InactiveEnterTimestamp"); !at.IsZero() {
			return at
		}
		return s.socket.Time("ActiveEnterTimestamp")
	case failing:
		return s.container.Time("InactiveEnterTimestamp")
	}
	return s.socket.Time("InactiveEnterTimestamp")
}

// status is how the proxy stands.
func (s *service) status() wire.Status { return wire.ParseStatus(s.proxy["StatusText"]) }

// connections are those that are open now, held ones and UDP sessions included.
func (s *service) connections() int {
	if !s.proxy.Is("active", "deactivating") {
		return 0
	}
	return int(s.status().Open)
}

// reached reports whether a client has got through to the app since it started.
func (s *service) reached() bool { return s.proxy.Is("active") && s.status().Reached }

// sleepsAt is when the service goes to sleep if nobody comes; zero while
// somebody is there, or if it never does.
func (s *service) sleepsAt() time.Time {
	if !s.proxy.Is("active") || s.unwanted() {
		return time.Time{}
	}
	return s.status().Ends
}

// coldStart is how long the last wake took, from the container's start on if
// it was started for it.
func (s *service) coldStart() time.Duration {
	return coldStart(s.wake, s.container.Time("InactiveExitTimestamp"), s.container.Time("ActiveEnterTimestamp"))
}

// coldStart is how long a wake took. The proxy starts once the container's
// start is over, and counts from there; if the container was up long before,
// nothing was started for this wake.
func coldStart(wake record, starting, started time.Time) time.Duration {
	began := wake.time.Add(-wake.took) // of the proxy
	if starting.IsZero() || starting.After(began) || started.Before(began.Add(-time.Second)) {
		return wake.took
	}
	return wake.time.Sub(starting)
}

// trouble is why the service is failing or does not listen: what its process
// said last, else what systemd said.
func (c *call) trouble(ctx context.Context, s *service) (string, error) {
	switch s.state() {
	case failing:
		if s.refused() {
			return c.refusal(ctx, s)
		}
		if s.proxy.Is("failed") || s.proxy["SubState"] == "auto-restart" {
			return c.lastWords(ctx, wire.Proxy.Of(s.name), time.Time{})
		}
		if s.container.Is("failed", "activating") || !s.failed.time.After(s.wake.time) {
			if why, err := c.needFailed(ctx, s); err != nil || why != "" {
				return why, err
			}
			return c.lastWords(ctx, wire.Container.Of(s.name), time.Time{})
		}
		return s.failed.text, nil
	case deaf:
		if s.socket.Is("failed", "activating") {
			return c.lastWords(ctx, wire.Socket.Of(s.name), time.Time{})
		}
		if s.shut() {
			return c.lastWords(ctx, wire.Open.Of(s.name), time.Time{})
		}
	}
	if len(s.deaf) > 0 && s.socket.Found() {
		return fmt.Sprintf("nothing listens on %s: zerolet apply --%s", strings.Join(s.deaf, " "), c.manager), nil
	}
	if s.orphan() {
		return fmt.Sprintf("its file is gone: zerolet apply --%s", c.manager), nil
	}
	return "", nil
}

// needFailed is why a unit that the container needs did not start, if that is
// why the container has not even begun to.
func (c *call) needFailed(ctx context.Context, s *service) (string, error) {
	if !s.container.Is("inactive") {
		return "", nil
	}
	names := strings.Fields(s.container["Requires"] + " " + s.container["BindsTo"])
	units, err := c.systemd().Units(ctx, names...)
	for i, u := range units {
		if !u.Is("failed", "activating", "deactivating") {
			continue
		}
		words, err := c.lastWords(ctx, names[i], time.Time{})
		if err != nil || words != "" {
			return fmt.Sprintf("%s, which it needs, failed: %s", names[i], words), err
		}
	}
	return "", err
}

// refusal is the first error of the file.
func (c *call) refusal(ctx context.Context, s *service) (string, error) {
	plan := c.planOf(ctx)
	for _, e := range plan.Endpoints {
		if e.Spec.File.Path != s.source() {
			continue
		}
		for _, d := range e.Diagnostics {
			if d.Severity.String() == "error" {
				return strings.ReplaceAll(d.String(), "\n", "; "), nil
			}
		}
	}
	return fmt.Sprintf("its file had an error at the last reload: zerolet apply --%s", c.manager), nil
}

// lastWords are what a unit's process said last before it failed, or, if it
// said nothing, what systemd said first about that failure, since a time.
func (c *call) lastWords(ctx context.Context, unit string, since time.Time) (string, error) {
	m := c.systemd()
	entries, err := m.Journal(ctx, systemd.Query{Since: since, Last: 100, Match: [][]string{m.From(unit), m.Told(unit)}})
	if err != nil {
		return "", err
	}
	var last, words, cause string
	for _, e := range entries {
		if e.Time().Before(since) { // --since= is about seconds
			continue
		}
		switch text := strings.TrimSpace(e.Text("MESSAGE")); {
		case e.Text("MESSAGE_ID") == systemd.Starting:
			words, cause = "", ""
		case e.Text("MESSAGE_ID") == systemd.Failed:
			last = cmp.Or(words, cause, last)
			words, cause = "", ""
		case e.About() == "" && e.Text("PODMAN_EVENT") == "": // an event is for machines
			words = cmp.Or(text, words)
		case e.About() != "" && isCause(e):
			cause = cmp.Or(cause, text)
		}
	}
	return reasoned(cmp.Or(last, words, cause)), nil // systemd may not have told the failure yet
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

// isCause tells whether a message of systemd's may say why a unit failed, and
// not only that it did, or that it is not tried again at once.
func isCause(e systemd.Entry) bool {
	text := e.Text("MESSAGE")
	return e.Number("PRIORITY") <= 5 && e.Text("MESSAGE_ID") != systemd.NoStart &&
		!strings.HasSuffix(text, "Start request repeated too quickly.") && !strings.Contains(text, "Unit needs to be started because")
}

func (c *call) systemd() systemd.Manager {
	return systemd.Manager{User: c.manager.String() == "user", UID: c.uid}
}

// unreachable says what to do when there is no manager to ask.
func (c *call) unreachable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	hint := "is systemd running?"
	if c.systemd().User {
		hint = fmt.Sprintf("log in as the user, or: export XDG_RUNTIME_DIR=/run/user/%d; as root, loginctl enable-linger USER starts their manager", c.uid)
	}
	return failure{exitFailure, err.Error(), hint}
}
