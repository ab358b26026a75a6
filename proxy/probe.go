package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/reach"
	"github.com/zerolet/zerolet/proxy/internal/sock"
)

// probeTimeout bounds one question of whether the app is ready.
const probeTimeout = 5 * time.Second

// probe asks the app over HTTP whether it is ready, before the first client
// and again for each new container.
type probe struct {
	path    string   // of the request
	started []string // files that Podman writes when it starts the container, or one of a pod
	header  []byte   // of the PROXY protocol, if it is spoken
	target  *target

	asking chan struct{}                  // holds an element while somebody asks
	ready  atomic.Pointer[[]reach.FileID] // of the container that was found ready
}

func newProbe(path string, started []string) *probe {
	return &probe{path: path, started: started, asking: make(chan struct{}, 1)}
}

// container tells one container from the next: Podman writes the file anew,
// its unit removes it. One of a pod may not be there.
func (p *probe) container() ([]reach.FileID, error) {
	ids := make([]reach.FileID, len(p.started))
	for i, path := range p.started {
		var err error
		if ids[i], err = reach.Identify(path); err != nil && i == 0 {
			return nil, reach.ErrNoContainer
		}
	}
	return ids, nil
}

// isReady reports whether the container that runs now was found ready. It does
// not wait for who is finding out.
func (p *probe) isReady() bool {
	now, err := p.container()
	return err == nil && p.found(now)
}

func (p *probe) found(now []reach.FileID) bool {
	ready := p.ready.Load()
	return ready != nil && slices.Equal(*ready, now)
}

// ask makes sure of it, with one question if need be.
func (p *probe) ask(ctx context.Context) error {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now, err := p.container()
	if err != nil || p.found(now) {
		return err
	}
	if err := p.get(ctx); err != nil {
		return err
	}
	p.ready.Store(&now)
	p.target.proven.Store(true) // it has answered
	return nil
}

// get makes the request and is content with a status of 2xx or 3xx.
func (p *probe) get(ctx context.Context) error {
	backend, err := reach.Dial(p.target.source, p.target.addrs, netip.AddrPort{})
	if err != nil {
		return err
	}
	defer backend.Close()
	if p.header != nil {
		sendHeader(backend, p.header)
	}
	file, _ := backend.Poller()
	file.SetDeadline(time.Now().Add(probeTimeout))
	defer context.AfterFunc(ctx, backend.Wake)()
	request := "GET " + p.path + " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: zerolet\r\nConnection: close\r\n\r\n"
	if _, err := file.WriteString(request); err != nil {
		return fmt.Errorf("%w: %w", reach.ErrNotReady, err)
	}
	line, err := readLine(backend)
	if err != nil {
		return fmt.Errorf("%w: %w", reach.ErrNotReady, err)
	}
	return p.judge(line)
}

// judge reads a status line (RFC 9112, 4).
func (p *probe) judge(line string) error {
	const version, status = "HTTP/1.", len("HTTP/1.1 ")
	switch {
	case !strings.HasPrefix(line, version) || len(line) < status+3:
		return fmt.Errorf("GET %s: no answer of HTTP/1.1: %.40q", p.path, line)
	case line[status] == '2' || line[status] == '3':
		return nil
	case line[status] == '5':
		return fmt.Errorf("%w: GET %s: %.40q", reach.ErrNotReady, p.path, line)
	}
	return fmt.Errorf("GET %s: %.40q", p.path, line)
}

// readLine reads the first line, and of the rest what is there, so that the
// end of the connection is no reset for the app.
func readLine(s *sock.Socket) (string, error) {
	file, _ := s.Poller()
	answer := make([]byte, 4096)
	n := 0
	for n < len(answer) && !strings.Contains(string(answer[:n]), "\n") {
		m, err := file.Read(answer[n:])
		if err != nil {
			return "", err
		}
		n += m
	}
	for range 64 {
		if m, err := unix.Read(s.FD, make([]byte, 1024)); m <= 0 || err != nil {
			break
		}
	}
	line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	return line, nil
}
