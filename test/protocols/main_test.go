// Package protocols shows that zerolet alters nothing: real servers behind it,
// each woken from zero by its own client, servers that speak first, sessions
// that last, uploads and pipelines. As root and as a rootless user.
package protocols

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zerolet/zerolet/test/harness"
	"github.com/zerolet/zerolet/test/lab"
)

func TestMain(m *testing.M) {
	// These tests wait more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	harness.Main(m)
}

// servers is the image of all servers and clients that come from Debian: one
// image is installed and imported in less time than five.
const servers = "localhost/servers"

func packages() []string {
	return []string{
		"postgresql", "redis-server", "exim4-daemon-light", "openssh-server", "openssh-client", "nginx",
		"bash-static", // a shell for ssh
		"nsd", "bind9-dnsutils",
	}
}

// service is one server under test: NAME.container on a port of its own. Each
// has a test for root and one for the user, and all of them run side by side.
type service struct {
	*harness.Host
	name string
}

// Every server wakes from zero by its own client, twice.
func TestProtocols(t *testing.T) {
	tests := []struct {
		name  string
		image string
		run   func(s service)
	}{
		{"postgres", servers, postgres},
		{"redis", servers, redis},
		{"smtp", servers, smtp},
		{"ssh", servers, ssh},
		{"nginx", servers, nginx},
		{"dns", servers, dns},
		{"websocket", "localhost/streams", webSocket},
		{"events", "localhost/streams", serverSentEvents},
		{"grpc", "localhost/streams", grpcStreams},
	}
	m := harness.Boot(t, lab.Options{})
	harness.Each(t, m, func(t *testing.T, h *harness.Host) {
		t.Parallel()
		if err := h.DebianImage(t.Context(), servers, packages()); err != nil {
			t.Fatal(err)
		}
		if _, err := h.ProgramImage(t.Context(), "protocols/streams"); err != nil {
			t.Fatal(err)
		}
		t.Run("of", func(t *testing.T) { // ends when all of them have
			for i, test := range tests {
				t.Run(test.name, func(t *testing.T) {
					t.Parallel()
					host := *h
					host.T, host.Port = t, h.Port+10*(i+1)
					test.run(service{&host, test.name})
				})
			}
		})
		if left := harness.Containers(t, h.Session); left != "" {
			t.Errorf("containers are left: %s", left)
		}
	})
}

// declare writes the .container file and leaves the container asleep.
func (s service) declare(image string, lines ...string) {
	s.Helper()
	lines = append([]string{"Image=" + image}, lines...)
	s.Declare(s.name, append(lines, "[ScaleToZero]", "IdleTimeout=1s")...)
	s.Expect(s.name+".service", "inactive")
}

// file makes a file that the container mounts, and returns its path.
func (s service) file(name, text string) string {
	s.Helper()
	path := s.dir() + "/" + name
	s.PutFile(path, text)
	return path
}

func (s service) dir() string { return s.Home + "/" + s.name }

// asleep waits until the idle container is gone.
func (s service) asleep() {
	s.Helper()
	s.WaitState(s.name+"-proxy.service", "inactive")
	s.WaitState(s.name+".service", "inactive")
	s.Expect(s.name+"-proxy.socket", "active")
}

// client runs a client of the image beside the server's socket, and returns
// what it prints. Mounts are volumes of that container.
func (s service) client(in io.Reader, mounts []string, args ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), harness.Patience)
	defer cancel()
	cmd := s.Command(ctx, clientCommand(mounts, args...)...)
	var out, diag bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &diag
	if err := cmd.Run(); err != nil {
		s.Fatalf("%s: %v\n%s%s\n%s", strings.Join(args, " "), err, diag.String(), tail(out.String()), s.LastJournal())
	}
	return out.String()
}

// Podman's own record of what a client prints is left out: with the journal,
// its default, each line is an entry, and 200,000 rows take minutes.
func clientCommand(mounts []string, args ...string) []string {
	run := []string{"podman", "run", "--rm", "--interactive", "--network=host", "--log-driver=none"}
	for _, mount := range mounts {
		run = append(run, "--volume="+mount)
	}
	return append(append(run, servers), args...)
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

// random is n bytes that nothing between two ends can guess or compress.
func random(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// exists reports whether the machine has a file.
func (s service) exists(path string) bool {
	_, err := os.Lstat(s.M.Host(path))
	return err == nil
}

// lines breaks a text into lines of n bytes.
func lines(text string, n int) string {
	var b strings.Builder
	for len(text) > n {
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	return b.String() + text + "\n"
}

// mustEqual compares what was sent and what came, by their hashes.
func (s service) mustEqual(what string, got, want []byte) {
	s.Helper()
	if sha256.Sum256(got) != sha256.Sum256(want) {
		s.Errorf("%s: %d bytes came, %d were sent, and their hashes differ", what, len(got), len(want))
	}
}

// read is a file of the machine, of the session's user.
func (s service) read(path string) []byte {
	s.Helper()
	data, err := os.ReadFile(s.M.Host(path))
	if err != nil {
		s.Fatal(err)
	}
	return data
}

// share makes a directory that any user of a container may write to.
func (s service) share(name string) string {
	s.Helper()
	path := filepath.Join(s.dir(), name)
	s.Must(s.T, "install", "-d", "-m", "0777", path)
	return path
}

func (s service) publish(port int) string { return fmt.Sprintf("PublishPort=%d:%d", s.Port, port) }
