package protocols

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/test/harness"
)

// PostgreSQL with psql: TLS inside the protocol, a bulk copy in both
// directions, data that outlives the sleep, and a session that keeps the
// container awake for as long as it is open. It turns clients away while it
// recovers: with Notify=healthy they are held until it does not.
func postgres(s service) {
	s.file("pg_hba.conf", "host all all all trust\n")
	s.file("postgresql.conf", strings.Join([]string{
		"listen_addresses = '*'", "hba_file = '/srv/pg_hba.conf'", "unix_socket_directories = '/tmp'", "fsync = off",
		"ssl = on", "ssl_cert_file = '/etc/ssl/certs/ssl-cert-snakeoil.pem'", "ssl_key_file = '/etc/ssl/private/ssl-cert-snakeoil.key'", "",
	}, "\n"))
	version := postgresVersion(s)
	bin, data := "/usr/lib/postgresql/"+version+"/bin/", "/var/lib/postgresql/"+version+"/main"
	s.declare(servers, "User=postgres", s.publish(5432), "Volume="+s.dir()+":/srv:ro", "Volume=pgdata:"+data,
		"Notify=healthy", "HealthInterval=2s", `HealthCmd=["`+bin+`pg_isready","--host=127.0.0.1"]`,
		"Exec="+bin+"postgres -D "+data+" -c config_file=/srv/postgresql.conf")
	psql := func(in io.Reader, args ...string) string {
		args = append([]string{bin + "psql", "--no-psqlrc", "-qAtv", "ON_ERROR_STOP=1"}, args...)
		return s.client(in, nil, append(args, "host=127.0.0.1 user=postgres port="+strconv.Itoa(s.Port))...)
	}
	var rows bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&rows, "%d\t%x\n", i, i*7919)
	}
	psql(nil, "-c", "create table t (n int, h text)")
	psql(bytes.NewReader(rows.Bytes()), "-c", `\copy t from pstdin`)
	s.asleep()
	out := psql(nil, "-c", `\copy (select * from t order by n) to pstdout`)
	s.mustEqual("rows after a sleep", []byte(out), rows.Bytes())
	if ssl := psql(nil, "-c", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"); ssl != "t\n" {
		s.Errorf("psql has not negotiated TLS: %q", ssl)
	}
	s.asleep()
	psqlSession(s, bin+"psql")
	s.asleep()
}

// postgresVersion is the one that the image has: each suite of Debian has its own.
func postgresVersion(s service) string {
	s.Helper()
	return path.Base(strings.TrimSpace(s.client(nil, nil, "bash-static", "-c", "echo /usr/lib/postgresql/*")))
}

// psqlSession is one session that asks, is silent for longer than the idle
// time, and asks again: the server must be the same process.
func psqlSession(s service, psql string) {
	cmd := s.Command(s.Context(), clientCommand(nil, psql, "-qAt",
		"host=127.0.0.1 user=postgres port="+strconv.Itoa(s.Port))...)
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	ask := func(query string) string {
		fmt.Fprintln(in, query)
		if !lines.Scan() {
			s.Fatalf("psql ended at %q: %v\n%s", query, lines.Err(), s.LastJournal())
		}
		return lines.Text()
	}
	const who = "select pg_postmaster_start_time(), pg_backend_pid();"
	before := ask(who)
	ask("select 'silence' from pg_sleep(3);")
	if after := ask(who); after != before {
		s.Errorf("the session went from server %s to %s", before, after)
	}
	s.Expect(s.name+".service", "active")
	in.Close()
	if err := cmd.Wait(); err != nil {
		s.Error(err)
	}
}

// Redis with redis-cli: a pipeline of 100,000 commands that does not wait for
// answers, and a value of 32 MiB in and out. Redis saves when it is stopped,
// so a sleep in between loses nothing.
func redis(s service) {
	s.declare(servers, s.publish(6379), "Volume=redis:/data",
		fmt.Sprintf("PodmanArgs=--stop-timeout=%d", int(harness.Patience.Seconds())), // it saves 32 MiB until it is killed
		"Notify=healthy", "HealthInterval=2s", `HealthCmd=["/usr/bin/redis-cli","-e","ping"]`,
		`Exec=/usr/bin/redis-server --bind "* -::*" --protected-mode no --save "3600 1" --dir /data`)
	cli := func(in io.Reader, args ...string) string {
		return s.client(in, nil, append([]string{"/usr/bin/redis-cli", "-h", "127.0.0.1", "-p", strconv.Itoa(s.Port)}, args...)...)
	}
	if pong := cli(nil, "ping"); pong != "PONG\n" {
		s.Errorf("redis-cli ping: %q", pong)
	}
	s.asleep()
	const commands = 100_000
	var pipeline bytes.Buffer
	for i := range commands {
		fmt.Fprintf(&pipeline, "RPUSH list %d\r\n", i)
	}
	if report := cli(&pipeline, "--pipe", "--pipe-timeout", "0"); !strings.Contains(report, fmt.Sprintf("errors: 0, replies: %d", commands)) {
		s.Errorf("redis-cli --pipe: %s", report)
	}
	value := random(32 << 20)
	cli(bytes.NewReader(value), "-x", "set", "big")
	s.asleep()
	if n := cli(nil, "llen", "list"); n != fmt.Sprintf("%d\n", commands) {
		s.Errorf("%q elements after a sleep, want %d", n, commands)
	}
	got := cli(nil, "--raw", "get", "big")
	s.mustEqual("value", []byte(strings.TrimSuffix(got, "\n")), value)
	s.asleep()
}

// Exim with curl: the server speaks first. A mail of 8 MB comes to the file
// with every byte.
func smtp(s service) {
	mail := s.share("mail")
	config := s.file("exim4.conf", strings.Join([]string{
		"primary_hostname = lab", "message_size_limit = 100M", "acl_smtp_rcpt = all", "acl_smtp_data = all",
		"host_lookup =", "rfc1413_query_timeout = 0s", "keep_environment =",
		"begin acl", "all:", "accept",
		"begin routers", "all:", "driver = accept", "transport = file",
		"begin transports", "file:", "driver = appendfile", "file = /mail/box", "user = mail", "mode = 0644", "",
	}, "\n"))
	s.declare(servers, s.publish(25), "Volume="+config+":/etc/exim4/exim4.conf:ro", "Volume="+mail+":/mail",
		"Exec=/usr/sbin/exim4 -bdf -q1h")
	text := "Subject: large\n\n" + lines(base64.StdEncoding.EncodeToString(random(6<<20)), 76)
	for range 2 {
		stays := s.mail(strings.ReplaceAll(text, "\n", "\r\n"))
		box := filepath.Join(mail, "box")
		body := func(text []byte) []byte {
			return bytes.TrimRight(text[max(0, bytes.Index(text, []byte("\n\n"))):], "\n")
		}
		want := body([]byte(text))
		s.Wait("the mail is delivered", func() bool { return s.exists(box) && len(body(s.read(box))) >= len(want) })
		s.mustEqual("mail", body(s.read(box)), want)
		_ = stays.Close()
		s.Must(s.T, "sh", "-c", "podman unshare rm "+box+" 2>/dev/null || rm "+box)
		s.asleep()
	}
}

// mail has curl send one. Who takes it delivers it when curl has gone: the connection that is returned keeps them awake.
func (s service) mail(text string) (stays io.Closer) {
	s.Helper()
	cmd := s.Command(s.Context(), "curl", "-sS", "--mail-from", "a@lab", "--mail-rcpt", "b@lab", "--upload-file", "-",
		fmt.Sprintf("smtp://127.0.0.1:%d", s.Port))
	var diag bytes.Buffer
	cmd.Stderr = &diag
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = io.WriteString(in, text[:len(text)/2]) // more than fits into a pipe: curl is in the midst of it
	}
	stays = s.Connect()
	if err == nil {
		_, err = io.WriteString(in, text[len(text)/2:])
	}
	if err := errors.Join(err, in.Close(), cmd.Wait()); err != nil {
		s.Fatalf("curl: %v\n%s\n%s", err, diag.String(), s.LastJournal())
	}
	return stays
}

// OpenSSH: the server speaks first. A command with input and output, and a
// file there and back by sftp.
func ssh(s service) {
	dir := s.dir()
	s.Must(s.T, "mkdir", "-p", dir)
	s.client(nil, []string{dir + ":/keys"}, "/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/keys/id")
	passwd := s.file("passwd", "root:x:0:0:root:/root:/usr/bin/bash-static\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
	s.declare(servers, s.publish(22), "Volume="+dir+":/keys:ro", "Volume="+passwd+":/etc/passwd:ro", "Tmpfs=/run/sshd:mode=0755",
		"Exec=/usr/sbin/sshd -D -e -o UsePAM=no -o StrictModes=no -o AuthorizedKeysFile=/keys/id.pub")
	options := []string{
		"-i", "/keys/id", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		"-o", "Port=" + strconv.Itoa(s.Port),
	}
	data := random(16 << 20)
	run := func(in io.Reader, program string, args ...string) string {
		return s.client(in, []string{dir + ":/keys", passwd + ":/etc/passwd:ro"}, append(append([]string{program}, options...), args...)...)
	}
	// The shell's own words only: nothing else is in the image.
	got := run(bytes.NewReader(append(data[:0:0], "first\nlast\n"...)), "/usr/bin/ssh", "root@127.0.0.1",
		"while read -r line; do echo got $line; done; exit 0")
	if got != "got first\ngot last\n" {
		s.Errorf("ssh: %q", got)
	}
	s.asleep()
	s.PutFile(dir+"/data", string(data))
	s.PutFile(dir+"/batch", "put /keys/data /tmp/data\nget /tmp/data /keys/back\n")
	run(nil, "/usr/bin/sftp", "-q", "-b", "/keys/batch", "root@127.0.0.1")
	s.mustEqual("file", s.read(dir+"/back"), data)
	s.asleep()
}

// nginx with curl and with a client that pipelines: a large upload, and
// thousands of requests on one connection before the first answer is read.
func nginx(s service) {
	www := s.share("www")
	config := s.file("nginx.conf", `user root; daemon off; error_log stderr; events {}
http { access_log off; client_max_body_size 0; keepalive_requests 100000; root /www;
server { listen 80; listen [::]:80; location / { dav_methods PUT; } location /n/ { return 200 "$uri\n"; } } }
`)
	s.declare(servers, s.publish(80), "Volume="+config+":/etc/nginx/nginx.conf:ro", "Volume="+www+":/www", "Exec=/usr/sbin/nginx")
	data := random(64 << 20)
	s.pipe(string(data), "curl", "-sSf", "--upload-file", "-", fmt.Sprintf("http://%s/upload", s.Addr()))
	s.mustEqual("upload", s.read(www+"/upload"), data)
	s.mustEqual("download", []byte(s.pipe("", "curl", "-sSf", fmt.Sprintf("http://%s/upload", s.Addr()))), data)
	s.asleep()
	s.pipeline(5000)
	s.asleep()
}

// pipeline sends n requests at once on one connection.
func (s service) pipeline(n int) {
	s.Helper()
	c := s.Connect()
	sent := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(c)
		for i := range n {
			fmt.Fprintf(w, "GET /n/%d HTTP/1.1\r\nHost: lab\r\n\r\n", i)
		}
		sent <- w.Flush()
	}()
	r := bufio.NewReader(c)
	for i := range n {
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			s.Fatalf("answer %d: %v\n%s", i, err, s.LastJournal())
		}
		body, err := io.ReadAll(answer.Body)
		if want := fmt.Sprintf("/n/%d\n", i); err != nil || string(body) != want {
			s.Fatalf("answer %d: %q, %v; want %q", i, body, err, want)
		}
	}
	if err := <-sent; err != nil {
		s.Error(err)
	}
	c.Close()
}

// pipe runs a program of the machine and returns what it prints.
func (s service) pipe(in string, args ...string) string {
	s.Helper()
	cmd := s.Command(s.Context(), args...)
	var out, diag bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &diag
	if err := cmd.Run(); err != nil {
		s.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, diag.String(), s.LastJournal())
	}
	return out.String()
}
