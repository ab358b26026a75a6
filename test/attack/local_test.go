package attack

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

// T0: many servers let in without a password who comes from 127.0.0.1 or ::1,
// and zerolet connects to a rootless container from there. So PostgreSQL as its
// official image sets it up, and Redis in protected mode, let in everybody.

// servers is the image of both.
const servers = "localhost/servers"

// trusting is a server in a container, and where its clients are.
type trusting struct {
	*harness.Host
	unit string
}

// Who passes through zerolet is local to no server, in no kind of network.
func TestTrustOfLoopback(t *testing.T) {
	t.Parallel()
	harness.Each(t, harness.Boot(t, lab.Options{Outside: true}), func(t *testing.T, h *harness.Host) {
		for _, s := range []*lab.Session{h.Session, h.M.Root()} { // the clients are root's
			if err := s.DebianImage(t.Context(), servers, []string{"postgresql-17", "redis-server"}); err != nil {
				t.Fatal(err)
			}
		}
		networks := h.Networks()
		if h.UserManager {
			networks = append(networks, harness.Network{Name: "keep-id", Lines: []string{"UserNS=keep-id"}})
		}
		for i, network := range networks {
			on := func(name string, attack func(s trusting, lines []string)) {
				t.Run(name+"/"+network.Name, func(t *testing.T) {
					host := *h
					host.T, host.Port = t, h.Port+10*i
					s := trusting{&host, name + "-" + network.Name}
					attack(s, network.Lines)
					s.Control("stop", s.unit+"-proxy.socket", s.unit+"-proxy.service", s.unit+".service")
				})
			}
			on("redis", protectedMode)
			if slices.Contains([]string{"bridge", "pasta", "none", "keep-id"}, network.Name) {
				on("postgres", trustOfLoopback) // takes its time
			}
		}
	})
}

// clients are those from somewhere else, and on the machine itself by its
// address and by its loopback.
func clients() []netip.Addr { return append(harness.Clients(), harness.Loopbacks()...) }

// trustOfLoopback is pg_hba.conf as initdb writes it, which trusts 127.0.0.1 and
// ::1, with two clients who are trusted besides, and a last line for all others,
// who have a password.
func trustOfLoopback(s trusting, network []string) {
	const password = "correct horse"
	dir := s.Home + "/" + s.unit
	s.PutFile(dir+"/start", strings.Join([]string{
		"set -eu", "export PATH=/usr/lib/postgresql/17/bin PGDATA=/tmp/data",
		"initdb --pwfile=/srv/password --no-sync",
		"for client in " + strings.Join(trusted(), " ") + `; do echo "host all all $client trust"; done >>$PGDATA/pg_hba.conf`,
		`echo 'host all all all scram-sha-256' >>$PGDATA/pg_hba.conf`,
		`exec postgres -c "listen_addresses=*" -c unix_socket_directories=/tmp -c fsync=off`, "",
	}, "\n"))
	s.PutFile(dir+"/password", password+"\n")
	s.Declare(s.unit, append(append([]string{
		"Image=" + servers, "User=postgres", fmt.Sprintf("PublishPort=%d:5432", s.Port),
		"Volume=" + dir + ":/srv:ro", "Volume=" + shell, "Exec=/usr/bin/sh /srv/start",
		"Notify=healthy", "HealthInterval=2s", `HealthCmd=["/usr/lib/postgresql/17/bin/pg_isready","--host=127.0.0.1"]`,
	}, network...), "[ScaleToZero]")...)
	s.logIn("", "no password supplied")
	s.logIn("wrong", "password authentication failed")
	s.logIn(password, "superuser")
	for _, client := range lab.Outside() {
		const ok, sasl = 0, 10 // what the server wants (protocol-message-formats.html)
		want := uint32(sasl)
		if slices.Contains(trusted(), netip.PrefixFrom(client, client.BitLen()).String()) {
			want = ok
		}
		if got := s.authentication(client); got != want {
			s.Errorf("PostgreSQL wants authentication %d of %s, not %d", got, client, want)
		}
	}
}

// trusted are clients of either family, as pg_hba.conf has them. psql comes from
// other addresses.
func trusted() []string { return []string{"198.51.100.13/32", "2001:db8:1::13/128"} }

// authentication is what PostgreSQL wants from a client with an address.
func (s trusting) authentication(client netip.Addr) uint32 {
	s.Helper()
	c := s.ConnectAs(client, s.Port)
	defer c.Close()
	startup := append(binary.BigEndian.AppendUint32(nil, 3<<16), "user\x00postgres\x00\x00"...)
	_, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(4+len(startup))), startup...))
	answer := make([]byte, 1+4+4) // R, the length, what is wanted
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil || answer[0] != 'R' {
		s.Fatalf("PostgreSQL says to %s: %q, %v\n%s", client, answer, err, s.LastJournal())
	}
	return binary.BigEndian.Uint32(answer[5:])
}

// shell is the machine's, which is of the image's suite: initdb needs one.
const shell = "/usr/bin/dash:/usr/bin/sh:ro"

// logIn has psql try with a password, as each kind of client. All of one place
// are one container, for each takes a second.
func (s trusting) logIn(password, want string) {
	s.Helper()
	places := map[bool][]string{}
	for _, client := range clients() {
		to, outside := client, !s.own(client)
		if outside {
			to = lab.Uplink(client)
		}
		places[outside] = append(places[outside], to.String())
	}
	for outside, to := range places {
		answers := s.psql(outside, to, password)
		if len(answers) != len(to) {
			s.Fatalf("%d answers for %q: %q\n%s", len(answers), to, answers, s.LastJournal())
		}
		for i, answer := range answers {
			if !strings.Contains(answer, want) {
				s.Errorf("to %s, from outside: %t, with the password %q: %q, want %q", to[i], outside, password, answer, want)
			}
		}
	}
}

// own reports whether an address is the machine's.
func (s trusting) own(client netip.Addr) bool {
	return client.IsLoopback() || client == lab.Uplink(client)
}

// psql is what psql says to one query on each of some addresses, a line each.
func (s trusting) psql(outside bool, to []string, password string) []string {
	s.Helper()
	const each = `for host; do psql --no-psqlrc -wqAt -c "select 'superuser' from pg_user where usesuper and usename = current_user" ` +
		`"host=$host user=postgres connect_timeout=120" 2>&1; echo; done`
	run := []string{
		"podman", "run", "--rm", "--network=host", "--log-driver=none", "--volume=" + shell,
		"--env=PATH=/usr/lib/postgresql/17/bin", "--env=PGPASSWORD=" + password, fmt.Sprintf("--env=PGPORT=%d", s.Port),
		servers, "/usr/bin/sh", "-c", each, "sh",
	}
	ctx, cancel := context.WithTimeout(s.Context(), harness.Patience)
	defer cancel()
	cmd := s.M.Root().Command(ctx, append(run, to...)...)
	if outside {
		cmd = s.M.CommandOutside(ctx, append(run, to...)...)
	}
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		s.Fatalf("psql: %v\n%s%s\n%s", err, out.String(), diag.String(), s.LastJournal())
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n\n")
}

// protectedMode is Redis without a password: it talks to clients on its own
// loopback alone. Those of a unix socket have no address to be known by.
func protectedMode(s trusting, network []string) {
	socket := s.RuntimeDir + "/" + s.unit + ".sock"
	s.Declare(s.unit, append(append([]string{
		"Image=" + servers, `Exec=/usr/bin/redis-server --bind "* -::*" --save "" --dir /tmp`,
	}, network...), "[ScaleToZero]", fmt.Sprintf("Listen=%d:6379", s.Port), "Listen="+socket+":6379")...)
	for _, client := range clients() {
		s.denied(client.String(), s.ConnectAs(client, s.Port))
	}
	c, err := s.M.Dial(s.Context(), "unix", socket)
	if err != nil {
		s.Fatal(err)
	}
	s.denied("a unix socket", c)
}

func (s trusting) denied(client string, c net.Conn) {
	s.Helper()
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	fmt.Fprint(c, "PING\r\nQUIT\r\n")
	answer, err := io.ReadAll(c)
	if len(answer) == 0 {
		s.Fatalf("%s gets no answer: %v\n%s", client, err, s.LastJournal())
	}
	if !strings.HasPrefix(string(answer), "-DENIED") {
		s.Errorf("Redis says to a client from %s: %.60q, %v", client, answer, err)
	}
}
