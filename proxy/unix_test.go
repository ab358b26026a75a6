package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zerolet/zerolet/proxy/internal/proxytest"
	"github.com/zerolet/zerolet/proxy/wire"
)

// A unix socket may be on either side or both. The client is held until the
// app has made its socket, and its half-close is handed on.
func TestUnixSockets(t *testing.T) {
	for name, front := range map[string]interface {
		net.Listener
		File() (*os.File, error)
	}{"unix to unix": proxytest.ListenUnix(t), "tcp to unix": proxytest.ListenTCP(t, "127.0.0.1:0")} {
		t.Run(name, func(t *testing.T) {
			back := filepath.Join(t.TempDir(), "app")
			r := serveFiles(t, proxytest.Config(front, wire.Address{Network: wire.Unix, Path: back}), proxytest.FilesOf(t, front))
			c := proxytest.Must(net.Dial(front.Addr().Network(), front.Addr().String()))(t).(interface {
				net.Conn
				CloseWrite() error
			})
			defer c.Close()
			c.SetDeadline(time.Now().Add(proxytest.Patience))
			io.WriteString(c, "ping")
			c.CloseWrite()
			r.waitHeld(t, 1)
			app := proxytest.Must(net.Listen("unix", back))(t)
			defer app.Close()
			backend := proxytest.Must(app.Accept())(t)
			io.Copy(backend, backend)
			backend.Close()
			if got, err := io.ReadAll(c); string(got) != "ping" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			if want := fmt.Sprintf("ready for pid %d of uid %d ", os.Getpid(), os.Getuid()); name == "unix to unix" && !strings.Contains(r.log.String(), want) {
				t.Errorf("%q is not in %q", want, r.log)
			}
		})
	}
}

// A socket that an app has left behind refuses, and is one that is not there yet.
func TestStaleAppSocket(t *testing.T) {
	front := proxytest.ListenTCP(t, "127.0.0.1:0")
	stale := proxytest.ListenUnix(t)
	stale.SetUnlinkOnClose(false)
	stale.Close()
	r := serve(t, proxytest.Config(front, proxytest.AddrOf(stale)), front, nil)
	c := proxytest.Connect(t, r.addr)
	r.waitHeld(t, 1)
	if r.log.String() != "" {
		t.Errorf("it is told as trouble: %s", r.log)
	}
	os.Remove(stale.Addr().String())
	app := proxytest.Must(net.Listen("unix", stale.Addr().String()))(t)
	defer app.Close()
	io.WriteString(c, "ping")
	backend := proxytest.Must(app.Accept())(t)
	defer backend.Close()
	proxytest.Expect(t, backend, "ping")
}

// What an app has said before it resets is delivered. A unix socket has no way
// to reset the client's side: it just ends, or is reset if the app had gone
// before "ping" could be sent on, which then is unread at the proxy, too.
func TestUnixBackendEnds(t *testing.T) {
	front := proxytest.ListenUnix(t)
	back := proxytest.ListenUnix(t)
	serveFiles(t, proxytest.Config(front, proxytest.AddrOf(back)), proxytest.FilesOf(t, front))
	c := proxytest.Must(net.Dial("unix", front.Addr().String()))(t)
	defer c.Close()
	c.SetDeadline(time.Now().Add(proxytest.Patience))
	io.WriteString(c, "ping")
	backend := proxytest.Must(back.Accept())(t)
	io.WriteString(backend, "pong")
	backend.Close() // "ping" is unread: a reset (unix_release_sock() in net/unix/af_unix.c)
	if got, err := io.ReadAll(c); string(got) != "pong" || err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%q, %v", got, err)
	}
}
