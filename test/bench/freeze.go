package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zerolet/zerolet/test/lab"
)

//go:embed Server.java
var javaServer string

// thaws are how often an app is thawed in each round.
const thaws = 30

// patience is how long anything may take.
const patience = 2 * time.Minute

// frozenApp is one that is measured.
type frozenApp struct {
	name  string
	image func(ctx context.Context, s *lab.Session) (string, error)
	lines []string // of [Container]
	args  []string // the same for podman run
	port  int      // in the container
	asks  string   // what a client says; the first byte of the answer counts
}

const httpRequest = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"

func frozenApps() []frozenApp {
	debian := func(name string, packages ...string) func(context.Context, *lab.Session) (string, error) {
		return func(ctx context.Context, s *lab.Session) (string, error) {
			return name, s.DebianImage(ctx, name, packages)
		}
	}
	return []frozenApp{
		{name: "nginx", image: func(ctx context.Context, s *lab.Session) (string, error) { return s.NginxImage(ctx) }, port: 80, asks: httpRequest},
		{
			name: "Go", image: func(ctx context.Context, s *lab.Session) (string, error) { return s.AppImage(ctx) },
			lines: []string{"Exec=-http :80"}, args: []string{"-http", ":80"}, port: 80, asks: httpRequest,
		},
		{
			name: "PostgreSQL", image: debian("localhost/postgres", "postgresql", "bash-static"),
			lines: []string{"User=postgres", "Exec=bash-static /srv/postgres.sh"}, args: []string{"bash-static", "/srv/postgres.sh"},
			port: 5432, asks: "\x00\x00\x00\x08\x04\xd2\x16\x2f", // SSLRequest
		},
		{
			name: "JVM", image: debian("localhost/java", "openjdk-21-jdk-headless", "openjdk-21-jre-headless"),
			lines: []string{"Exec=" + java + " /srv/Server.java"}, args: []string{java, "/srv/Server.java"}, port: 80, asks: httpRequest,
		},
	}
}

const java = "/usr/lib/jvm/java-21-openjdk-amd64/bin/java"

// startPostgres serves the database that Debian's package has made. Its client is asked for nothing but whether it may
// use TLS.
const startPostgres = `bin=$(echo /usr/lib/postgresql/*/bin)
data=$(echo /var/lib/postgresql/*/main)
exec $bin/postgres -D $data -c config_file=/srv/postgresql.conf
`

const postgresConf = `listen_addresses = '*'
hba_file = '/srv/pg_hba.conf'
unix_socket_directories = '/tmp'
`

// freezing measures an app that is awake, frozen, and not there, and what Podman itself takes for the like. Its arguments
// are the number of rounds and, for some apps only, their names.
func freezing(ctx context.Context, args ...string) (_ string, err error) {
	rounds := 7
	if len(args) > 0 {
		if rounds, err = strconv.Atoi(args[0]); err != nil {
			return "", err
		}
	}
	apps := frozenApps()
	if len(args) > 1 {
		apps = slices.DeleteFunc(apps, func(a frozenApp) bool { return !slices.Contains(args[1:], a.name) })
	}
	m, err := booted(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var text strings.Builder
	fmt.Fprintf(&text, "%s; trixie; connect to first byte in ms: median (quartiles) of %d rounds in turns; frozen, and awake just after each "+
		"thaw, of %d; 99 %%: of the frozen ones. Freezing costs: the difference of these two medians. Podman's, median: from the "+
		"command to the first byte, without what any command takes.\n\n", machine(), rounds, rounds*thaws)
	text.WriteString("| manager | app | awake | frozen | 99 % | freezing costs | from nothing | podman unpause | podman start |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	var rests []string
	for i, s := range m.Sessions() {
		all, err := prepareFrozen(ctx, m, s, apps, 8100+10*i)
		if err != nil {
			return "", err
		}
		for range rounds {
			for _, f := range all {
				if err := f.round(ctx); err != nil {
					return "", fmt.Errorf("%s, %s: %w", s.Name, f.name, err)
				}
			}
		}
		for _, f := range all {
			fmt.Fprintf(&text, "| %s | %s | %s | %s | %.1f | %.1f | %s | %.0f | %.0f |\n", s.Name, f.name, f.awake, f.thaw, ms(f.thaw.at(0.99)),
				ms(f.thaw.median()-f.awake.median()), f.nothing, ms(f.unpause.median()), ms(f.start.median()))
			r, err := f.rest(ctx)
			if err != nil {
				return "", fmt.Errorf("%s, %s: %w", s.Name, f.name, err)
			}
			rests = append(rests, fmt.Sprintf("| %s | %s | %s |\n", s.Name, f.name, r))
		}
	}
	text.WriteString("\n" + restHead + strings.Join(rests, ""))
	return text.String(), nil
}

// measured is an app in one manager.
type measured struct {
	frozenApp
	machine *lab.Machine
	session *lab.Session
	service string
	port    int      // the service's; the next one is Podman's own
	file    []string // its lines

	awake, thaw, nothing, unpause, start sample
}

// prepareFrozen declares all services, and makes a container of Podman's own beside each.
func prepareFrozen(ctx context.Context, m *lab.Machine, s *lab.Session, apps []frozenApp, port int) ([]*measured, error) {
	srv := s.Home + "/bench"
	for name, text := range map[string]string{
		"Server.java": javaServer, "postgres.sh": startPostgres, "postgresql.conf": postgresConf, "pg_hba.conf": "host all all all trust\n",
	} {
		if err := s.Put(ctx, srv+"/"+name, text); err != nil {
			return nil, err
		}
	}
	var all []*measured
	for i, app := range apps {
		f := &measured{frozenApp: app, machine: m, session: s, service: fmt.Sprintf("bench%d", i), port: port + 2*i}
		image, err := app.image(ctx, s)
		if err != nil {
			return nil, err
		}
		lines := []string{"[Container]", "Image=" + image, fmt.Sprintf("PublishPort=%d:%d", f.port, app.port), "Volume=" + srv + ":/srv:ro"}
		f.file = append(append(lines, app.lines...), "[ScaleToZero]", "Sleep=freeze", "StopAfter=infinity")
		if err := f.put(ctx, "IdleTimeout=100ms", "ReclaimMemory=no"); err != nil {
			return nil, err
		}
		run := []string{"podman", "run", "--detach", "--name", f.service, fmt.Sprintf("--publish=%d:%d", f.port+1, app.port), "--volume=" + srv + ":/srv:ro"}
		if app.name == "PostgreSQL" {
			run = append(run, "--user=postgres")
		}
		if _, err := s.Run(ctx, append(append(run, image), app.args...)...); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	_, err := s.Run(ctx, "zerolet", "apply")
	return all, err
}

// put declares the service with these lines, too.
func (f *measured) put(ctx context.Context, lines ...string) error {
	return f.session.Put(ctx, f.service+".container", strings.Join(append(f.file[:len(f.file):len(f.file)], append(lines, "")...), "\n"))
}

// round is one of each.
func (f *measured) round(ctx context.Context) error {
	if _, err := f.session.Run(ctx, "zerolet", "sleep", "--force", f.service); err != nil {
		return err
	}
	if err := f.ask(ctx, f.port, &f.nothing); err != nil {
		return err
	}
	for range thaws {
		if err := f.awaitFrozen(ctx); err != nil {
			return err
		}
		for _, sample := range []*sample{&f.thaw, &f.awake} { // the second comes within the idle time
			if err := f.ask(ctx, f.port, sample); err != nil {
				return err
			}
		}
	}
	if err := f.awaitFrozen(ctx); err != nil { // it takes nothing of what follows
		return err
	}
	for _, p := range []struct {
		end, begin string
		sample     *sample
	}{{"pause", "unpause", &f.unpause}, {"stop", "start", &f.start}} {
		if err := f.podman(ctx, p.end, p.begin, p.sample); err != nil {
			return err
		}
	}
	return nil
}

// ask measures one answer.
func (f *measured) ask(ctx context.Context, port int, into *sample) error {
	began := time.Now()
	c, err := f.machine.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(f.asks)); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return err
	}
	*into = append(*into, time.Since(began))
	return nil
}

// podman measures the container beside it.
func (f *measured) podman(ctx context.Context, end, begin string, into *sample) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var ignored sample
	for f.ask(ctx, f.port+1, &ignored) != nil { // it is up
		if err := moment(ctx); err != nil {
			return fmt.Errorf("podman's container does not answer: %w", err)
		}
	}
	if _, err := f.session.Run(ctx, "podman", end, f.service); err != nil {
		return err
	}
	began := time.Now()
	if _, err := f.session.Run(ctx, "true"); err != nil {
		return err
	}
	whatever := time.Since(began)
	began = time.Now()
	if _, err := f.session.Run(ctx, "podman", begin, f.service); err != nil {
		return err
	}
	for f.ask(ctx, f.port+1, &ignored) != nil {
		if err := moment(ctx); err != nil {
			return fmt.Errorf("no answer after podman %s: %w", begin, err)
		}
	}
	*into = append(*into, time.Since(began)-whatever)
	return nil
}

func moment(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Millisecond):
		return nil
	}
}

// group is the directory of a unit's cgroup, seen from outside.
func (f *measured) group(ctx context.Context, unit string) (string, error) {
	path, err := f.session.Show(ctx, unit, "ControlGroup")
	return f.machine.Host("/sys/fs/cgroup" + path), err
}

func (f *measured) awaitFrozen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	group, err := f.group(ctx, f.service+".service")
	if err != nil {
		return err
	}
	for {
		paths, _ := filepath.Glob(filepath.Join(group, "libpod-payload-*", "cgroup.events")) // no error for this pattern
		for _, path := range paths {
			if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "frozen 1") {
				return nil
			}
		}
		if err := moment(ctx); err != nil {
			return fmt.Errorf("%s is not frozen: %w", f.service, err)
		}
	}
}
